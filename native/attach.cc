// Links: every way to attach a program, and reading an iterator. closing.cc detaches.
#include "knp.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace knp {

namespace {

struct Target {
  std::shared_ptr<Object> object;
  bpf_program* program = nullptr;
  std::string name;
};

bool GetTarget(Call& call, Target* target) {
  target->object = call.GetObject(0);
  if (!target->object) return false;
  target->program = call.GetProgram(target->object.get(), 1);
  if (target->program) target->name = bpf_program__name(target->program);
  return target->program != nullptr;
}

napi_value Adopt(Call& call, Target& target, bpf_link* link, int raw_fd = -1) {
  auto handle = std::make_shared<Link>(call.env, target.object.get());
  handle->link = link;
  handle->raw_fd = raw_fd;
  target.object->Adopt(handle);
  return call.Wrap(handle);
}

napi_value Refused(Call& call, const Target& target, int error, const std::string& where, const LogCapture& log) {
  return call.Fail(error, "cannot attach program '" + target.name + "'" + where, log.text());
}

// attach(object, program): by what its SEC() says
napi_value Attach(Call& call) {
  Target target;
  if (!GetTarget(call, &target)) return nullptr;
  LogCapture log;
  bpf_link* link = bpf_program__attach(target.program);
  if (!link) return Refused(call, target, errno, "", log);
  return Adopt(call, target, link);
}

// attachIterator(object, program, map|undefined, pid|undefined)
napi_value AttachIterator(Call& call) {
  Target target;
  if (!GetTarget(call, &target)) return nullptr;
  bpf_iter_link_info info{};
  LIBBPF_OPTS(bpf_iter_attach_opts, options);
  if (call.Has(2)) {
    auto map = call.GetMap(2);
    if (!map) return nullptr;
    info.map.map_fd = map->fd;
    options.link_info = &info;
    options.link_info_len = sizeof(info);
  } else if (call.Has(3)) {
    int64_t pid;
    if (!call.GetInt(3, &pid)) return nullptr;
    info.task.pid = pid;
    options.link_info = &info;
    options.link_info_len = sizeof(info);
  }
  LogCapture log;
  bpf_link* link = bpf_program__attach_iter(target.program, &options);
  if (!link) return Refused(call, target, errno, " as an iterator", log);
  return Adopt(call, target, link);
}

// attachUprobe(object, program, path, symbol|undefined, offset, pid, retprobe, cookie, refCtrOffset); pid -1: every process
napi_value AttachUprobe(Call& call) {
  Target target;
  std::string path, symbol;
  int64_t pid;
  uint64_t offset, cookie, semaphore;
  bool retprobe;
  if (!GetTarget(call, &target) || !call.GetString(2, &path)) return nullptr;
  if (call.Has(3) && !call.GetString(3, &symbol)) return nullptr;
  if (!call.GetU64(4, &offset) || !call.GetInt(5, &pid) || !call.GetBool(6, &retprobe) || !call.GetU64(7, &cookie) ||
      !call.GetU64(8, &semaphore))
    return nullptr;
  LIBBPF_OPTS(bpf_uprobe_opts, options);
  options.ref_ctr_offset = semaphore;
  options.bpf_cookie = cookie;
  options.retprobe = retprobe;
  options.func_name = symbol.empty() ? nullptr : symbol.c_str();
  options.attach_mode = PROBE_ATTACH_MODE_LINK;  // the other modes survive a killed process
  LogCapture log;
  bpf_link* link = bpf_program__attach_uprobe_opts(target.program, pid, path.c_str(), offset, &options);
  if (!link) return Refused(call, target, errno, " to " + path, log);
  return Adopt(call, target, link);
}

// attachKprobe(object, program, function, offset, retprobe, cookie)
napi_value AttachKprobe(Call& call) {
  Target target;
  std::string function;
  uint64_t offset, cookie;
  bool retprobe;
  if (!GetTarget(call, &target) || !call.GetString(2, &function) || !call.GetU64(3, &offset) ||
      !call.GetBool(4, &retprobe) || !call.GetU64(5, &cookie))
    return nullptr;
  LIBBPF_OPTS(bpf_kprobe_opts, options);
  options.offset = offset;
  options.retprobe = retprobe;
  options.bpf_cookie = cookie;
  options.attach_mode = PROBE_ATTACH_MODE_LINK;
  LogCapture log;
  bpf_link* link = bpf_program__attach_kprobe_opts(target.program, function.c_str(), &options);
  if (!link) return Refused(call, target, errno, " to " + function, log);
  return Adopt(call, target, link);
}

// attachUprobeMulti(object, program, path, offsets, cookies, pid, retprobe): one link for many places of one file (Linux
// 6.6); offsets and cookies are u64 back to back, as many of each; pid -1: every process
napi_value AttachUprobeMulti(Call& call) {
  Target target;
  std::string path;
  const uint8_t *offsets, *cookies;
  size_t size, cookies_size;
  int64_t pid;
  bool retprobe;
  if (!GetTarget(call, &target) || !call.GetString(2, &path) || !call.GetBytes(3, &offsets, &size) ||
      !call.GetBytes(4, &cookies, &cookies_size) || !call.GetInt(5, &pid) || !call.GetBool(6, &retprobe))
    return nullptr;
  if (size == 0 || size % 8 || size != cookies_size) return call.Misuse("as many cookies as offsets, and at least one");
  std::vector<unsigned long> at(size / 8);
  std::vector<__u64> with(size / 8);
  memcpy(at.data(), offsets, size);
  memcpy(with.data(), cookies, size);
  LIBBPF_OPTS(bpf_uprobe_multi_opts, options);
  options.offsets = at.data();
  options.cookies = with.data();
  options.cnt = at.size();
  options.retprobe = retprobe;
  LogCapture log;
  bpf_link* link = bpf_program__attach_uprobe_multi(target.program, pid, path.c_str(), nullptr, &options);
  if (!link) return Refused(call, target, errno, " to " + std::to_string(at.size()) + " places of " + path, log);
  return Adopt(call, target, link);
}

// attachTcx(object, program, ifindex, ingress, netns|undefined, cookie)
napi_value AttachTcx(Call& call) {
  Target target;
  int64_t ifindex;
  bool ingress;
  Netns netns;
  if (!GetTarget(call, &target) || !call.GetInt(2, &ifindex) || !call.GetBool(3, &ingress) || !GetNetns(call, 4, &netns))
    return nullptr;
  LogCapture log;
  int program = bpf_program__fd(target.program);
  int fd = InNetns(netns, [&] {
    return bpf_link_create(program, ifindex, ingress ? BPF_TCX_INGRESS : BPF_TCX_EGRESS, nullptr);
  });
  if (fd < 0) return Refused(call, target, fd, " with tcx to interface " + std::to_string(ifindex), log);
  return Adopt(call, target, nullptr, fd);
}

// attachTc(object, program, ifindex, ingress, handle, priority, netns|undefined, cookie): a clsact filter. It is no link:
// it outlives a killed process, so callers give handle and priority, and attaching again replaces what was left behind.
// It keeps its network namespace open, for that is where it must be removed.
napi_value AttachTc(Call& call) {
  Target target;
  int64_t ifindex, handle, priority;
  bool ingress;
  Netns netns;
  if (!GetTarget(call, &target) || !call.GetInt(2, &ifindex) || !call.GetBool(3, &ingress) ||
      !call.GetInt(4, &handle) || !call.GetInt(5, &priority) || !GetNetns(call, 6, &netns))
    return nullptr;
  LogCapture log;
  auto link = std::make_shared<Link>(call.env, target.object.get());
  link->tc_hook.sz = sizeof(bpf_tc_hook);
  link->tc_hook.ifindex = ifindex;
  link->tc_hook.attach_point = ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  link->tc_opts.sz = sizeof(bpf_tc_opts);
  link->tc_opts.prog_fd = bpf_program__fd(target.program);
  link->tc_opts.handle = handle;
  link->tc_opts.priority = priority;
  link->tc_opts.flags = handle && priority ? BPF_TC_F_REPLACE : 0;
  int error = InNetns(netns, [&] {
    // opened here: in this thread's namespace, which is the one that was asked for
    if (!netns.path.empty()) link->tc_netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (!netns.path.empty() && link->tc_netns < 0) return -errno;
    int error = bpf_tc_hook_create(&link->tc_hook);
    return error && error != -EEXIST ? error : bpf_tc_attach(&link->tc_hook, &link->tc_opts);
  });
  if (error) {
    if (link->tc_netns >= 0) close(link->tc_netns);
    link->object = nullptr;
    return Refused(call, target, error, " with tc to interface " + std::to_string(ifindex), log);
  }
  link->tc = true;
  target.object->Adopt(link);
  return call.Wrap(link);
}

// attachXdp(object, program, ifindex, mode, netns|undefined, cookie): mode 0 kernel's choice, 1 generic, 2 driver, 3 hardware
napi_value AttachXdp(Call& call) {
  Target target;
  int64_t ifindex, mode;
  Netns netns;
  if (!GetTarget(call, &target) || !call.GetInt(2, &ifindex) || !call.GetInt(3, &mode) || !GetNetns(call, 4, &netns))
    return nullptr;
  constexpr uint32_t kFlags[] = {0, XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_HW_MODE};
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = kFlags[mode & 3]);
  LogCapture log;
  int program = bpf_program__fd(target.program);
  int fd = InNetns(netns, [&] { return bpf_link_create(program, ifindex, BPF_XDP, &options); });
  if (fd < 0) return Refused(call, target, fd, " with XDP to interface " + std::to_string(ifindex), log);
  return Adopt(call, target, nullptr, fd);
}

// attachCgroup(object, program, path)
napi_value AttachCgroup(Call& call) {
  Target target;
  std::string path;
  if (!GetTarget(call, &target) || !call.GetString(2, &path)) return nullptr;
  LogCapture log;
  int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Refused(call, target, errno, " to cgroup " + path, log);
  bpf_link* link = bpf_program__attach_cgroup(target.program, fd);
  int error = errno;
  close(fd);
  if (!link) return Refused(call, target, error, " to cgroup " + path, log);
  return Adopt(call, target, link);
}

// attachNetns(object, program, path): flow dissector, sk_lookup
napi_value AttachNetns(Call& call) {
  Target target;
  std::string path;
  if (!GetTarget(call, &target) || !call.GetString(2, &path)) return nullptr;
  LogCapture log;
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Refused(call, target, errno, " to network namespace " + path, log);
  bpf_link* link = bpf_program__attach_netns(target.program, fd);
  int error = errno;
  close(fd);
  if (!link) return Refused(call, target, error, " to network namespace " + path, log);
  return Adopt(call, target, link);
}

// attachNetlink(object, program, protocol, groups): a netlink socket of this process's network namespace, subscribed to
// these multicast groups, with the program as its filter. It is no link, but it ends with the process all the same.
napi_value AttachNetlink(Call& call) {
  Target target;
  int64_t protocol, groups;
  if (!GetTarget(call, &target) || !call.GetInt(2, &protocol) || !call.GetInt(3, &groups)) return nullptr;
  LogCapture log;
  std::string where = " to netlink protocol " + std::to_string(protocol);
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return Refused(call, target, errno, where, log);
  int program = bpf_program__fd(target.program);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  // the filter first: a socket that is subscribed without it has messages to read
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)) ||
      bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address))) {
    int error = errno;
    close(fd);
    return Refused(call, target, error, where, log);
  }
  napi_value link = Adopt(call, target, nullptr, fd);
  auto handle = std::static_pointer_cast<Link>(target.object->children.back());
  handle->socket = true;
  return link;
}

std::shared_ptr<Link> GetLink(Call& call) {
  auto link = call.Get<Link>(0, Kind::kLink, "BPF link");
  if (link && link->closed()) {
    call.Misuse("the BPF link is closed");
    return nullptr;
  }
  return link;
}

// linkRead(link, maxBytes): Buffer, everything that one pass of the iterator wrote
napi_value Read(Call& call) {
  auto link = GetLink(call);
  int64_t limit;
  if (!link || !call.GetInt(1, &limit)) return nullptr;
  if (link->tc || link->socket) return call.Misuse("only an iterator can be read");
  int fd = bpf_iter_create(link->fd());
  if (fd < 0) return call.Fail(fd, "cannot start the iterator");
  std::vector<uint8_t> out(64 << 10);
  size_t used = 0;
  int error = 0;
  for (;;) {
    if (used > static_cast<size_t>(limit)) {
      error = EFBIG;
      break;
    }
    if (used == out.size()) out.resize(out.size() * 2);
    ssize_t got = read(fd, out.data() + used, out.size() - used);
    if (got == 0) break;
    // EAGAIN: the kernel pauses a walk after a million elements that printed nothing
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) {
      error = errno;
      break;
    }
    used += got;
  }
  close(fd);
  if (error) return call.Fail(error, "reading the iterator failed");
  return call.Bytes(out.data(), used);
}

// linkRequest(link, message): sends a netlink message and takes in the answer, datagram by datagram, until there is no
// more; how much of it is left to see is up to the filter. Returns how many datagrams came.
napi_value Request(Call& call) {
  auto link = GetLink(call);
  const uint8_t* data;
  size_t size;
  if (!link || !call.GetBytes(1, &data, &size)) return nullptr;
  if (!link->socket) return call.Misuse("only a netlink socket can be asked");
  if (send(link->raw_fd, data, size, 0) < 0) return call.Fail(errno, "the netlink request failed");
  // A dump grows by one datagram with each that is read, as long as the buffer: a small one keeps each to a page.
  struct {
    nlmsghdr head;
    int error;
  } answer;
  for (double count = 0;; count++) {
    ssize_t got = recv(link->raw_fd, &answer, sizeof(answer), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return call.Number(count);
    if (got < 0) return call.Fail(errno, "reading the netlink answer failed");
    if (got == sizeof(answer) && answer.head.nlmsg_type == NLMSG_ERROR && answer.error)
      return call.Fail(answer.error, "the kernel refuses the netlink request");
  }
}

// linkInfo(link): {id, type, programId, interfaceIndex?} | undefined (neither a tc filter nor a socket is a link); the
// index becomes 0 when the interface goes away
napi_value Info(Call& call) {
  auto link = GetLink(call);
  if (!link) return nullptr;
  if (link->tc || link->socket) return call.Undefined();
  bpf_link_info info{};
  uint32_t size = sizeof(info);
  int error = bpf_link_get_info_by_fd(link->fd(), &info, &size);
  if (error) return call.Fail(error, "cannot read info of the link");
  napi_value result = call.Dict();
  const char* type = libbpf_bpf_link_type_str(static_cast<bpf_link_type>(info.type));
  call.Set(result, "id", call.Number(info.id));
  call.Set(result, "type", call.String(type));
  call.Set(result, "programId", call.Number(info.prog_id));
  if (info.type == BPF_LINK_TYPE_TCX) call.Set(result, "interfaceIndex", call.Number(info.tcx.ifindex));
  if (info.type == BPF_LINK_TYPE_XDP) call.Set(result, "interfaceIndex", call.Number(info.xdp.ifindex));
  return result;
}

}  // namespace

void ExportAttach(napi_env env, napi_value exports) {
  Export(env, exports, "attach", Attach);
  Export(env, exports, "attachIterator", AttachIterator);
  Export(env, exports, "attachUprobe", AttachUprobe);
  Export(env, exports, "attachUprobeMulti", AttachUprobeMulti);
  Export(env, exports, "attachKprobe", AttachKprobe);
  Export(env, exports, "attachTcx", AttachTcx);
  Export(env, exports, "attachTc", AttachTc);
  Export(env, exports, "attachXdp", AttachXdp);
  Export(env, exports, "attachCgroup", AttachCgroup);
  Export(env, exports, "attachNetns", AttachNetns);
  Export(env, exports, "attachNetlink", AttachNetlink);
  Export(env, exports, "linkRead", Read);
  Export(env, exports, "linkRequest", Request);
  Export(env, exports, "linkInfo", Info);
}

}  // namespace knp
