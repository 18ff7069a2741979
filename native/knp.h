// What every file of the addon shares: the environment, the handles and their ownership, arguments and errors.
//
// Ownership. An Object owns its links and ring readers and closes them with itself; maps and programs are views of it.
// A handle's memory is shared (std::shared_ptr) by its JavaScript wrapper and its owner, so closing in any order,
// twice, or from a finalizer is safe; "closed" is a state, never a dangling pointer. There is no global state: each
// environment (main thread, worker) has an Env, whose cleanup hook closes all that is open and waits for libuv.
#pragma once

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <node_api.h>
#include <uv.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace knp {

enum class Kind : uint64_t { kObject = 1, kMap, kLink, kRing, kStats };

class Handle;
struct Closing;

// One per Node environment. Reference-counted: finalizers may run after the environment's instance data is gone.
struct Env {
  napi_env env = nullptr;
  uv_loop_t* loop = nullptr;
  napi_ref error_class = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  std::set<Handle*> open;  // what the cleanup hook must close; children are closed by their parents
  int closing_polls = 0;   // uv handles whose close callback is still to come
  std::deque<std::shared_ptr<Closing>> closings;  // links to detach on libuv's pool, in order; the first is under way
  bool cleaning = false;
  void FinishCleanupIfIdle();
};

class Handle {
 public:
  Handle(Kind kind, std::shared_ptr<Env> env) : kind(kind), env(std::move(env)) {}
  virtual ~Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  virtual void Close() = 0;  // idempotent
  virtual bool closed() const = 0;
  const Kind kind;
  const std::shared_ptr<Env> env;
};

class Object;

// What the kernel holds for one link: a bpf_link, a filtered netlink socket, or for legacy tc a filter that has to be
// removed by hand. It needs nothing of JavaScript, so any thread can give it back.
struct Attachment {
  void Detach();
  int fd() const { return link ? bpf_link__fd(link) : raw_fd; }

  bpf_link* link = nullptr;
  int raw_fd = -1;
  bool socket = false;  // raw_fd is a netlink socket that the program filters
  bool tc = false;
  int tc_netns = -1;  // the filter's network namespace where it is not the process's own
  bpf_tc_hook tc_hook{};
  bpf_tc_opts tc_opts{};
};

class Link final : public Handle, public Attachment {
 public:
  Link(std::shared_ptr<Env> env, Object* object) : Handle(Kind::kLink, std::move(env)), object(object) {}
  ~Link() override { Close(); }
  void Close() override;  // returns when it is detached, also where CloseLater() came first
  bool closed() const override { return object == nullptr || closing != nullptr; }

  Object* object;              // owner; null once detached
  Closing* closing = nullptr;  // while it waits for the pool to detach it; the pool alone uses the attachment then
};

// Reads one BPF ring buffer on the environment's event loop.
class Ring final : public Handle, public std::enable_shared_from_this<Ring> {
 public:
  Ring(std::shared_ptr<Env> env, Object* object) : Handle(Kind::kRing, std::move(env)), object(object) {}
  ~Ring() override { Close(); }
  void Close() override;
  bool closed() const override { return object == nullptr; }

  Object* object;
  ring_buffer* ring = nullptr;
  uv_poll_t* poll = nullptr;
  napi_ref callback = nullptr;
  napi_async_context context = nullptr;
  std::vector<uint8_t> batch;
  size_t batch_limit = 0;
  uint32_t batch_count = 0;
};

class Object final : public Handle {
 public:
  explicit Object(std::shared_ptr<Env> env) : Handle(Kind::kObject, std::move(env)) {}
  ~Object() override { Close(); }
  void Close() override;
  bool closed() const override { return object == nullptr; }
  // While something is attached or read, the collector must not take the object: the external is held strongly.
  void Adopt(std::shared_ptr<Handle> child);
  void Release(Handle* child);

  bpf_object* object = nullptr;
  bool loaded = false;
  napi_ref self = nullptr;
  std::vector<std::shared_ptr<Handle>> children;
};

// A view of one map of a loaded object; usable until the object is closed.
class Map final : public Handle {
 public:
  Map(std::shared_ptr<Env> env, std::shared_ptr<Object> object)
      : Handle(Kind::kMap, std::move(env)), object(std::move(object)) {}
  void Close() override {}
  bool closed() const override { return object->closed(); }
  bool per_cpu() const;
  size_t stored_value_size() const;  // of all CPUs for per-CPU maps

  std::shared_ptr<Object> object;
  std::string name;
  int fd = -1;
  bpf_map_type type = BPF_MAP_TYPE_UNSPEC;
  uint32_t key_size = 0, value_size = 0, max_entries = 0;
  uint32_t last_count = 0;  // capacity hint for the next readAll
};

// BPF run-time statistics stay enabled in the kernel while one of these is open.
class Stats final : public Handle {
 public:
  explicit Stats(std::shared_ptr<Env> env) : Handle(Kind::kStats, std::move(env)) {}
  ~Stats() override { Close(); }
  void Close() override;
  bool closed() const override { return fd < 0; }
  int fd = -1;
};

// Collects what libbpf prints while in scope, on this thread only. Bounded: keeps the beginning and the end.
class LogCapture {
 public:
  explicit LogCapture(bool debug = false);
  ~LogCapture();
  std::string text() const;
  void Add(const char* data, size_t size);
  bool debug() const { return debug_; }

 private:
  bool debug_;
  LogCapture* previous_;
  std::string head_, tail_;
};

// One call from JavaScript: typed arguments, results, errors. After a failed getter an exception is pending and the
// function must return; getters say so by returning false or null.
class Call {
 public:
  Call(napi_env env, napi_callback_info info);
  napi_env napi;
  std::shared_ptr<Env> env;
  size_t count = 0;
  napi_value args[10] = {};

  bool Has(size_t i) const;  // neither missing, undefined nor null
  bool GetString(size_t i, std::string* out);
  bool GetInt(size_t i, int64_t* out);
  bool GetU64(size_t i, uint64_t* out);  // BigInt or number
  bool GetBool(size_t i, bool* out);
  bool GetBytes(size_t i, const uint8_t** data, size_t* size);

  template <class T>
  std::shared_ptr<T> Get(size_t i, Kind kind, const char* what) {
    auto handle = GetHandle(i, kind, what);
    return std::static_pointer_cast<T>(handle);
  }
  std::shared_ptr<Object> GetObject(size_t i, bool loaded = true);
  std::shared_ptr<Map> GetMap(size_t i);
  bpf_program* GetProgram(Object* object, size_t i, bool loaded = true);

  // Throws KernelError(message, code, log); code is an errno (sign ignored) or 0 for misuse. Returns null.
  napi_value Fail(int error, const std::string& message, const std::string& log = {});
  napi_value Misuse(const std::string& message) { return Fail(0, message); }

  napi_value Wrap(std::shared_ptr<Handle> handle);
  napi_value Undefined();
  napi_value Bool(bool value);
  napi_value Number(double value);
  napi_value BigInt(uint64_t value);
  napi_value String(const char* value);
  napi_value Bytes(const void* data, size_t size);
  napi_value Dict();
  napi_value Array();
  void Set(napi_value dict, const char* key, napi_value value);

 private:
  std::shared_ptr<Handle> GetHandle(size_t i, Kind kind, const char* what);
};

// Runs `run` on libuv's pool, then `done` on the event loop. Returns a promise of what `done` returns.
napi_value OnPool(Call& call, const char* name, std::function<void()> run, std::function<napi_value(napi_env)> done);

// A network namespace: the process's own, or the one that a path leads to. A path of /proc may lead elsewhere a moment
// later, so the caller says whom it expects: cookies (SO_NETNS_COOKIE, Linux 5.14) are never used twice.
struct Netns {
  std::string path;  // empty: the process's own
  uint64_t cookie = 0;
};
bool GetNetns(Call& call, size_t i, Netns* netns);  // arguments i (path or undefined) and i + 1 (cookie)
// Runs `work` there, on a thread of its own, so that no thread of the agent ever leaves its namespace. Returns what
// `work` returns or a negative errno: ESTALE where the path leads to another namespace than expected.
int InNetns(const Netns& netns, const std::function<int()>& work);
int InNetns(int fd, const std::function<int()>& work);

std::shared_ptr<Env> EnvOf(napi_env env);

using Function = napi_value (*)(Call&);
void Export(napi_env env, napi_value exports, const char* name, Function function);

void ExportObject(napi_env env, napi_value exports);
void ExportProgram(napi_env env, napi_value exports);
void ExportAttach(napi_env env, napi_value exports);
void ExportClosing(napi_env env, napi_value exports);
void ExportNetns(napi_env env, napi_value exports);
void ExportFiles(napi_env env, napi_value exports);
void DropClosings(Env* env);
void ExportMap(napi_env env, napi_value exports);
void ExportRing(napi_env env, napi_value exports);
void ExportSystem(napi_env env, napi_value exports);

}  // namespace knp
