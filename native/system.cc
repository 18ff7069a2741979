// What belongs to no object: BPF statistics, and asking the kernel what it can do by trying it.
#include "knp.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace knp {

void Stats::Close() {
  if (fd < 0) return;
  close(fd);
  fd = -1;
  env->open.erase(this);
}

namespace {

// statsEnable(): external; the kernel counts run time and runs of every program while it is open (Linux 5.8)
napi_value StatsEnable(Call& call) {
  if (call.env->cleaning) return call.Misuse("the environment is shutting down");
  int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (fd < 0) return call.Fail(fd, "cannot enable BPF statistics");
  auto stats = std::make_shared<Stats>(call.env);
  stats->fd = fd;
  call.env->open.insert(stats.get());
  return call.Wrap(stats);
}

napi_value StatsClose(Call& call) {
  auto stats = call.Get<Stats>(0, Kind::kStats, "BPF statistics handle");
  if (!stats) return nullptr;
  stats->Close();
  return call.Undefined();
}

napi_value StatsIsClosed(Call& call) {
  auto stats = call.Get<Stats>(0, Kind::kStats, "BPF statistics handle");
  return stats ? call.Bool(stats->closed()) : nullptr;
}

// possibleCpus(): number, the width of per-CPU values
napi_value PossibleCpus(Call& call) { return call.Number(libbpf_num_possible_cpus()); }

napi_value LibbpfVersion(Call& call) { return call.String(libbpf_version_string() + 1); }  // "v1.7" without the v

// tryProgram(type, attachType, target, instructions, attach): {stage: 'target'|'load'|'attach'|'ok', error, log}
// Loads a program of raw instructions and, if asked, attaches it through a tracing link. target: the kernel function or
// tracepoint that BTF-typed programs name, or ''. Leaves nothing behind.
napi_value TryProgram(Call& call) {
  int64_t type, attach_type;
  std::string target;
  const uint8_t* code;
  size_t size;
  bool attach;
  if (!call.GetInt(0, &type) || !call.GetInt(1, &attach_type) || !call.GetString(2, &target) ||
      !call.GetBytes(3, &code, &size) || !call.GetBool(4, &attach))
    return nullptr;
  std::vector<bpf_insn> instructions(size / sizeof(bpf_insn));
  memcpy(instructions.data(), code, instructions.size() * sizeof(bpf_insn));
  std::string verifier(16 << 10, '\0');
  LogCapture log;
  LIBBPF_OPTS(bpf_prog_load_opts, options);
  options.expected_attach_type = static_cast<bpf_attach_type>(attach_type);
  options.log_level = 1;
  options.log_buf = verifier.data();
  options.log_size = verifier.size();
  const char* stage = "ok";
  int error = 0, fd = -1, link = -1;
  if (!target.empty()) {
    int id = libbpf_find_vmlinux_btf_id(target.c_str(), static_cast<bpf_attach_type>(attach_type));
    if (id < 0) stage = "target", error = id;
    options.attach_btf_id = id;
  }
  if (!error) {
    fd = bpf_prog_load(static_cast<bpf_prog_type>(type), "knp_try", "GPL", instructions.data(), instructions.size(),
                       &options);
    if (fd < 0) stage = "load", error = fd;
  }
  if (!error && attach) {
    link = bpf_raw_tracepoint_open(nullptr, fd);
    if (link < 0) stage = "attach", error = link;
  }
  if (link >= 0) close(link);
  if (fd >= 0) close(fd);
  napi_value result = call.Dict();
  call.Set(result, "stage", call.String(stage));
  call.Set(result, "error", call.Number(error < 0 ? -error : error));
  call.Set(result, "log", call.String((std::string(verifier.c_str()) + log.text()).c_str()));
  return result;
}

// tryPerfProbe(pmuType, function): 0, or the errno of opening a kprobe by perf_event_open; leaves nothing behind
napi_value TryPerfProbe(Call& call) {
  int64_t type;
  std::string function;
  if (!call.GetInt(0, &type) || !call.GetString(1, &function)) return nullptr;
  perf_event_attr attributes{};
  attributes.type = type;
  attributes.size = sizeof(attributes);
  attributes.config1 = reinterpret_cast<uint64_t>(function.c_str());
  int fd = syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) close(fd);
  return call.Number(error);
}

// hasMapType(number), hasProgramType(number): boolean; hasHelper(programType, helper): boolean
napi_value HasMapType(Call& call) {
  int64_t type;
  if (!call.GetInt(0, &type)) return nullptr;
  int result = libbpf_probe_bpf_map_type(static_cast<bpf_map_type>(type), nullptr);
  return result < 0 ? call.Fail(result, "cannot probe the map type") : call.Bool(result);
}
napi_value HasProgramType(Call& call) {
  int64_t type;
  if (!call.GetInt(0, &type)) return nullptr;
  int result = libbpf_probe_bpf_prog_type(static_cast<bpf_prog_type>(type), nullptr);
  return result < 0 ? call.Fail(result, "cannot probe the program type") : call.Bool(result);
}
napi_value HasHelper(Call& call) {
  int64_t type, helper;
  if (!call.GetInt(0, &type) || !call.GetInt(1, &helper)) return nullptr;
  int result = libbpf_probe_bpf_helper(static_cast<bpf_prog_type>(type), static_cast<bpf_func_id>(helper), nullptr);
  return result < 0 ? call.Fail(result, "cannot probe the helper") : call.Bool(result);
}

}  // namespace

void ExportSystem(napi_env env, napi_value exports) {
  Export(env, exports, "statsEnable", StatsEnable);
  Export(env, exports, "statsClose", StatsClose);
  Export(env, exports, "statsIsClosed", StatsIsClosed);
  Export(env, exports, "possibleCpus", PossibleCpus);
  Export(env, exports, "libbpfVersion", LibbpfVersion);
  Export(env, exports, "tryProgram", TryProgram);
  Export(env, exports, "tryPerfProbe", TryPerfProbe);
  Export(env, exports, "hasMapType", HasMapType);
  Export(env, exports, "hasProgramType", HasProgramType);
  Export(env, exports, "hasHelper", HasHelper);
}

}  // namespace knp
