// The addon's frame: environments and their end, arguments, errors, libbpf's log. Domain-free.
#include "knp.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace knp {
namespace {

constexpr size_t kLogHead = 64 << 10, kLogTail = 192 << 10;
constexpr uint64_t kTag = 0x6b6e702d62706600;  // "knp-bpf"

thread_local LogCapture* current_log = nullptr;

int Print(libbpf_print_level level, const char* format, va_list args) {
  LogCapture* log = current_log;
  if (!log || (level == LIBBPF_DEBUG && !log->debug())) return 0;
  va_list again;
  va_copy(again, args);
  int size = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (size <= 0) return 0;
  std::string text(size + 1, '\0');
  vsnprintf(text.data(), text.size(), format, args);
  log->Add(text.data(), size);
  return 0;
}

napi_type_tag TagOf(Kind kind) { return {kTag, static_cast<uint64_t>(kind)}; }

void FinalizeHandle(napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Handle>*>(data); }

void FinalizeEnv(napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Env>*>(data); }

// Runs when the environment ends, however it ends: closes everything, then waits for libuv's close callbacks, without
// which a worker's loop could not be freed.
void Cleanup(napi_async_cleanup_hook_handle, void* data) {
  auto env = *static_cast<std::shared_ptr<Env>*>(data);
  env->cleaning = true;
  while (!env->open.empty()) (*env->open.begin())->Close();  // Close() takes it out of the set
  DropClosings(env.get());
  if (env->error_class) napi_delete_reference(env->env, env->error_class);
  env->error_class = nullptr;
  env->FinishCleanupIfIdle();
}

}  // namespace

void Env::FinishCleanupIfIdle() {
  if (!cleaning || closing_polls > 0 || !cleanup) return;
  napi_remove_async_cleanup_hook(cleanup);
  cleanup = nullptr;
}

LogCapture::LogCapture(bool debug) : debug_(debug), previous_(current_log) { current_log = this; }
LogCapture::~LogCapture() { current_log = previous_; }

void LogCapture::Add(const char* data, size_t size) {
  size_t room = kLogHead - head_.size();
  size_t first = size < room ? size : room;
  head_.append(data, first);
  tail_.append(data + first, size - first);
  if (tail_.size() > 2 * kLogTail) tail_.erase(0, tail_.size() - kLogTail);
}

std::string LogCapture::text() const {
  if (tail_.size() <= kLogTail) return head_ + tail_;
  return head_ + "\n[...]\n" + tail_.substr(tail_.size() - kLogTail);
}

std::shared_ptr<Env> EnvOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return data ? *static_cast<std::shared_ptr<Env>*>(data) : nullptr;
}

Call::Call(napi_env napi, napi_callback_info info) : napi(napi), env(EnvOf(napi)) {
  count = sizeof(args) / sizeof(args[0]);
  napi_get_cb_info(napi, info, &count, args, nullptr, nullptr);
}

bool Call::Has(size_t i) const {
  if (i >= count) return false;
  napi_valuetype type;
  return napi_typeof(napi, args[i], &type) == napi_ok && type != napi_undefined && type != napi_null;
}

bool Call::GetString(size_t i, std::string* out) {
  size_t size = 0;
  if (i >= count || napi_get_value_string_utf8(napi, args[i], nullptr, 0, &size) != napi_ok) {
    Misuse("argument " + std::to_string(i) + " must be a string");
    return false;
  }
  out->resize(size + 1);
  napi_get_value_string_utf8(napi, args[i], out->data(), size + 1, &size);
  out->resize(size);
  if (out->find('\0') != std::string::npos) {
    Misuse("argument " + std::to_string(i) + " must not contain a NUL character");
    return false;
  }
  return true;
}

bool Call::GetInt(size_t i, int64_t* out) {
  if (i < count && napi_get_value_int64(napi, args[i], out) == napi_ok) return true;
  Misuse("argument " + std::to_string(i) + " must be a number");
  return false;
}

bool Call::GetU64(size_t i, uint64_t* out) {
  bool lossless = false;
  int64_t number = 0;
  if (i < count && napi_get_value_bigint_uint64(napi, args[i], out, &lossless) == napi_ok) return true;
  if (i < count && napi_get_value_int64(napi, args[i], &number) == napi_ok) {
    *out = static_cast<uint64_t>(number);
    return true;
  }
  Misuse("argument " + std::to_string(i) + " must be a BigInt or a number");
  return false;
}

bool Call::GetBool(size_t i, bool* out) {
  if (i < count && napi_get_value_bool(napi, args[i], out) == napi_ok) return true;
  Misuse("argument " + std::to_string(i) + " must be a boolean");
  return false;
}

bool Call::GetBytes(size_t i, const uint8_t** data, size_t* size) {
  bool typed = false;
  napi_typedarray_type type = napi_int8_array;
  if (i < count && napi_is_typedarray(napi, args[i], &typed) == napi_ok && typed) {
    void* bytes = nullptr;
    napi_get_typedarray_info(napi, args[i], &type, size, &bytes, nullptr, nullptr);
    if (type == napi_uint8_array) {
      *data = static_cast<const uint8_t*>(bytes);
      return true;
    }
  }
  Misuse("argument " + std::to_string(i) + " must be a Uint8Array");
  return false;
}

std::shared_ptr<Handle> Call::GetHandle(size_t i, Kind kind, const char* what) {
  napi_type_tag tag = TagOf(kind);
  bool same = false;
  void* data = nullptr;
  if (i >= count || napi_check_object_type_tag(napi, args[i], &tag, &same) != napi_ok || !same ||
      napi_get_value_external(napi, args[i], &data) != napi_ok) {
    bool pending = false;
    napi_is_exception_pending(napi, &pending);
    if (!pending) Misuse("argument " + std::to_string(i) + " is not a " + what);
    return nullptr;
  }
  return *static_cast<std::shared_ptr<Handle>*>(data);
}

std::shared_ptr<Object> Call::GetObject(size_t i, bool loaded) {
  auto object = Get<Object>(i, Kind::kObject, "BPF object");
  if (!object) return nullptr;
  if (object->closed()) {
    Misuse("the BPF object is closed");
    return nullptr;
  }
  if (loaded && !object->loaded) {
    Misuse("the BPF object is not loaded");
    return nullptr;
  }
  return object;
}

std::shared_ptr<Map> Call::GetMap(size_t i) {
  auto map = Get<Map>(i, Kind::kMap, "BPF map");
  if (map && map->closed()) {
    Misuse("map '" + map->name + "': its BPF object is closed");
    return nullptr;
  }
  return map;
}

bpf_program* Call::GetProgram(Object* object, size_t i, bool loaded) {
  std::string name;
  if (!GetString(i, &name)) return nullptr;
  bpf_program* program = bpf_object__find_program_by_name(object->object, name.c_str());
  if (!program) {
    Misuse("the BPF object has no program '" + name + "'");
    return nullptr;
  }
  if (loaded && bpf_program__fd(program) < 0) {
    Misuse("program '" + name + "' was not loaded (autoload is off)");
    return nullptr;
  }
  return program;
}

napi_value Call::Fail(int error, const std::string& message, const std::string& log) {
  if (error < 0) error = -error;
  napi_value constructor = nullptr, instance = nullptr, argv[3];
  argv[0] = String(message.c_str());
  argv[1] = Number(error);
  napi_create_string_utf8(napi, log.data(), log.size(), &argv[2]);
  if (env && env->error_class) napi_get_reference_value(napi, env->error_class, &constructor);
  if (constructor && napi_new_instance(napi, constructor, 3, argv, &instance) == napi_ok) {
    napi_throw(napi, instance);
  } else {
    napi_throw_error(napi, nullptr, message.c_str());
  }
  return nullptr;
}

napi_value Call::Wrap(std::shared_ptr<Handle> handle) {
  napi_type_tag tag = TagOf(handle->kind);
  auto* data = new std::shared_ptr<Handle>(std::move(handle));
  napi_value value = nullptr;
  if (napi_create_external(napi, data, FinalizeHandle, nullptr, &value) != napi_ok) {
    delete data;
    return nullptr;
  }
  napi_type_tag_object(napi, value, &tag);
  return value;
}

napi_value Call::Undefined() {
  napi_value value = nullptr;
  napi_get_undefined(napi, &value);
  return value;
}
napi_value Call::Bool(bool b) {
  napi_value value = nullptr;
  napi_get_boolean(napi, b, &value);
  return value;
}
napi_value Call::Number(double number) {
  napi_value value = nullptr;
  napi_create_double(napi, number, &value);
  return value;
}
napi_value Call::BigInt(uint64_t number) {
  napi_value value = nullptr;
  napi_create_bigint_uint64(napi, number, &value);
  return value;
}
napi_value Call::String(const char* text) {
  napi_value value = nullptr;
  napi_create_string_utf8(napi, text ? text : "", NAPI_AUTO_LENGTH, &value);
  return value;
}
napi_value Call::Bytes(const void* data, size_t size) {
  napi_value value = nullptr;
  napi_create_buffer_copy(napi, size, data, nullptr, &value);
  return value;
}
napi_value Call::Dict() {
  napi_value value = nullptr;
  napi_create_object(napi, &value);
  return value;
}
napi_value Call::Array() {
  napi_value value = nullptr;
  napi_create_array(napi, &value);
  return value;
}
void Call::Set(napi_value dict, const char* key, napi_value value) {
  napi_set_named_property(napi, dict, key, value);
}

namespace {

struct PoolWork {
  std::function<void()> run;
  std::function<napi_value(napi_env)> done;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void CompletePoolWork(napi_env env, napi_status, void* data) {
  std::unique_ptr<PoolWork> work(static_cast<PoolWork*>(data));
  napi_resolve_deferred(env, work->deferred, work->done(env));
  napi_delete_async_work(env, work->work);
}

}  // namespace

napi_value OnPool(Call& call, const char* name, std::function<void()> run, std::function<napi_value(napi_env)> done) {
  auto work = std::make_unique<PoolWork>();
  work->run = std::move(run);
  work->done = std::move(done);
  auto execute = [](napi_env, void* data) { static_cast<PoolWork*>(data)->run(); };
  napi_value promise = nullptr;
  if (napi_create_promise(call.napi, &work->deferred, &promise) != napi_ok ||
      napi_create_async_work(call.napi, nullptr, call.String(name), execute, CompletePoolWork, work.get(),
                             &work->work) != napi_ok ||
      napi_queue_async_work(call.napi, work->work) != napi_ok)
    return call.Misuse("the environment is shutting down");
  work.release();  // CompletePoolWork has it
  return promise;
}

void Export(napi_env env, napi_value exports, const char* name, Function function) {
  napi_value value = nullptr;
  auto entry = [](napi_env env, napi_callback_info info) -> napi_value {
    void* data = nullptr;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
    Call call(env, info);
    return reinterpret_cast<Function>(data)(call);
  };
  napi_create_function(env, name, NAPI_AUTO_LENGTH, entry, reinterpret_cast<void*>(function), &value);
  napi_set_named_property(env, exports, name, value);
}

// setErrorClass(KernelError): the class whose instances every function here throws.
static napi_value SetErrorClass(Call& call) {
  if (call.env->error_class) napi_delete_reference(call.napi, call.env->error_class);
  call.env->error_class = nullptr;
  if (napi_create_reference(call.napi, call.args[0], 1, &call.env->error_class) != napi_ok)
    return call.Misuse("setErrorClass: not a class");
  return call.Undefined();
}

static napi_value Init(napi_env env, napi_value exports) {
  libbpf_set_print(Print);  // the same function for every environment; it only reaches this thread's capture
  auto state = std::make_shared<Env>();
  state->env = env;
  napi_get_uv_event_loop(env, &state->loop);
  auto* held = new std::shared_ptr<Env>(state);
  napi_set_instance_data(env, held, FinalizeEnv, nullptr);
  napi_add_async_cleanup_hook(env, Cleanup, held, &state->cleanup);
  Export(env, exports, "setErrorClass", SetErrorClass);
  ExportObject(env, exports);
  ExportProgram(env, exports);
  ExportAttach(env, exports);
  ExportClosing(env, exports);
  ExportNetns(env, exports);
  ExportFiles(env, exports);
  ExportMap(env, exports);
  ExportRing(env, exports);
  ExportSystem(env, exports);
  return exports;
}

}  // namespace knp

NAPI_MODULE_INIT() { return knp::Init(env, exports); }
