// Loaded programs: what the kernel says about them, and test runs.
#include "knp.h"

#include <cerrno>

namespace knp {
namespace {

// programFd(object, program): number
napi_value Fd(Call& call) {
  auto object = call.GetObject(0);
  if (!object) return nullptr;
  bpf_program* program = call.GetProgram(object.get(), 1);
  return program ? call.Number(bpf_program__fd(program)) : nullptr;
}

// programInfo(object, program): {id, runTimeNs, runCount, recursionMisses, verifiedInstructions, jitedBytes}
// Run time and count stand still unless BPF statistics are enabled. Zero where the kernel does not know a field.
napi_value Info(Call& call) {
  auto object = call.GetObject(0);
  if (!object) return nullptr;
  bpf_program* program = call.GetProgram(object.get(), 1);
  if (!program) return nullptr;
  bpf_prog_info info{};
  uint32_t size = sizeof(info);
  int error = bpf_prog_get_info_by_fd(bpf_program__fd(program), &info, &size);
  if (error) return call.Fail(error, std::string("cannot read info of program '") + bpf_program__name(program) + "'");
  napi_value result = call.Dict();
  call.Set(result, "id", call.Number(info.id));
  call.Set(result, "runTimeNs", call.Number(info.run_time_ns));
  call.Set(result, "runCount", call.Number(info.run_cnt));
  call.Set(result, "recursionMisses", call.Number(info.recursion_misses));
  call.Set(result, "verifiedInstructions", call.Number(info.verified_insns));
  call.Set(result, "jitedBytes", call.Number(info.jited_prog_len));
  return result;
}

// programTestRun(object, program, data|undefined, context|undefined, repeat, dataOutSize):
// {returnValue, durationNs, data, context}
napi_value TestRun(Call& call) {
  auto object = call.GetObject(0);
  if (!object) return nullptr;
  bpf_program* program = call.GetProgram(object.get(), 1);
  if (!program) return nullptr;
  const uint8_t *data = nullptr, *context = nullptr;
  size_t data_size = 0, context_size = 0;
  int64_t repeat, out_size;
  if (call.Has(2) && !call.GetBytes(2, &data, &data_size)) return nullptr;
  if (call.Has(3) && !call.GetBytes(3, &context, &context_size)) return nullptr;
  if (!call.GetInt(4, &repeat) || !call.GetInt(5, &out_size)) return nullptr;
  std::vector<uint8_t> data_out(out_size), context_out(context_size);
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = data;
  options.data_size_in = data_size;
  options.data_out = out_size ? data_out.data() : nullptr;
  options.data_size_out = out_size;
  options.ctx_in = context;
  options.ctx_size_in = context_size;
  // raw tracepoints and iterators take a context but refuse to give one back
  bool gives_context = context && bpf_program__type(program) != BPF_PROG_TYPE_RAW_TRACEPOINT &&
                       bpf_program__type(program) != BPF_PROG_TYPE_SYSCALL;
  options.ctx_out = gives_context ? context_out.data() : nullptr;
  options.ctx_size_out = gives_context ? context_size : 0;
  options.repeat = static_cast<int>(repeat);
  int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
  if (error) return call.Fail(error, std::string("test run of program '") + bpf_program__name(program) + "' failed");
  napi_value result = call.Dict();
  call.Set(result, "returnValue", call.Number(options.retval));
  call.Set(result, "durationNs", call.Number(options.duration));
  call.Set(result, "data", call.Bytes(data_out.data(), out_size ? options.data_size_out : 0));
  call.Set(result, "context", call.Bytes(context_out.data(), gives_context ? options.ctx_size_out : 0));
  return result;
}

}  // namespace

void ExportProgram(napi_env env, napi_value exports) {
  Export(env, exports, "programFd", Fd);
  Export(env, exports, "programInfo", Info);
  Export(env, exports, "programTestRun", TestRun);
}

}  // namespace knp
