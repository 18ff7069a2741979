// Network namespaces and their interfaces.
#include "knp.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace knp {
namespace {

int CookieOfThisThread(uint64_t* cookie) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  socklen_t size = sizeof(*cookie);
  int error = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &size) ? -errno : 0;
  close(fd);
  return error;
}

struct Visit {
  int fd;
  const std::function<int()>* work;
  int result;
};

void VisitThread(void* data) {
  auto* visit = static_cast<Visit*>(data);
  visit->result = setns(visit->fd, CLONE_NEWNET) ? -errno : (*visit->work)();
}

struct Interface {
  uint32_t index;
  std::string name;
};

struct Listing {
  std::string path;
  size_t limit = 0;
  int error = 0;
  uint64_t cookie = 0;
  bool more = false;
  std::vector<Interface> interfaces;
};

int ListHere(Listing* listing) {
  if (int error = CookieOfThisThread(&listing->cookie)) return error;
  struct if_nameindex* list = if_nameindex();
  if (!list) return -errno;
  for (auto* at = list; at->if_index && !listing->more; at++) {
    listing->more = listing->interfaces.size() == listing->limit;
    if (!listing->more) listing->interfaces.push_back({at->if_index, at->if_name});
  }
  if_freenameindex(list);
  return 0;
}

void List(Listing* listing) {
  auto list = [listing] { return ListHere(listing); };
  if (listing->path.empty()) {
    listing->error = list();
    return;
  }
  int fd = open(listing->path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    listing->error = -errno;
    return;
  }
  listing->error = InNetns(fd, list);
  close(fd);
}

napi_value Described(napi_env env, const Listing& listing) {
  napi_value result, value, list, item;
  napi_create_object(env, &result);
  napi_create_int32(env, -listing.error, &value);
  napi_set_named_property(env, result, "error", value);
  napi_create_bigint_uint64(env, listing.cookie, &value);
  napi_set_named_property(env, result, "cookie", value);
  napi_get_boolean(env, listing.more, &value);
  napi_set_named_property(env, result, "more", value);
  napi_create_array(env, &list);
  uint32_t at = 0;
  for (const Interface& interface : listing.interfaces) {
    napi_create_object(env, &item);
    napi_create_uint32(env, interface.index, &value);
    napi_set_named_property(env, item, "index", value);
    napi_create_string_utf8(env, interface.name.c_str(), NAPI_AUTO_LENGTH, &value);
    napi_set_named_property(env, item, "name", value);
    napi_set_element(env, list, at++, item);
  }
  napi_set_named_property(env, result, "interfaces", list);
  return result;
}

// netnsInterfaces(path|undefined, limit): promise of {error, cookie, more, interfaces: [{index, name}]}; error: an errno.
// On the pool, for the kernel's lock around interfaces may be held for long.
napi_value Interfaces(Call& call) {
  auto listing = std::make_shared<Listing>();
  int64_t limit;
  if (call.Has(0) && !call.GetString(0, &listing->path)) return nullptr;
  if (!call.GetInt(1, &limit)) return nullptr;
  listing->limit = limit;
  return OnPool(
      call, "knp:interfaces", [listing] { List(listing.get()); },
      [listing](napi_env env) { return Described(env, *listing); });
}

}  // namespace

bool GetNetns(Call& call, size_t i, Netns* netns) {
  if (!call.Has(i)) return true;
  return call.GetString(i, &netns->path) && call.GetU64(i + 1, &netns->cookie);
}

int InNetns(int fd, const std::function<int()>& work) {
  Visit visit{fd, &work, 0};
  uv_thread_t thread;
  int error = uv_thread_create(&thread, VisitThread, &visit);
  if (error) return error;
  uv_thread_join(&thread);
  return visit.result;
}

int InNetns(const Netns& netns, const std::function<int()>& work) {
  if (netns.path.empty()) return work();
  int fd = open(netns.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = InNetns(fd, [&] {
    uint64_t cookie = 0;
    int error = CookieOfThisThread(&cookie);
    if (error) return error;
    return cookie == netns.cookie ? work() : -ESTALE;
  });
  close(fd);
  return result;
}

void ExportNetns(napi_env env, napi_value exports) {
  Export(env, exports, "netnsInterfaces", Interfaces);
}

}  // namespace knp
