// Detaching links: at once, or one after another on libuv's pool. The kernel takes up to half a second to detach a uprobe
// (it waits for RCU), so a set of them must not be closed on the event loop.
#include "knp.h"

#include <unistd.h>

namespace knp {

// One link that is to be detached on the pool. The one that claims it detaches it, the pool or an impatient Close(); the
// other waits or has nothing to do. So closing in any order, twice, or while the environment ends stays safe.
struct Closing {
  explicit Closing(std::shared_ptr<Link> closed) : link(std::move(closed)) { uv_sem_init(&done, 0); }
  ~Closing() {
    link->closing = nullptr;
    uv_sem_destroy(&done);
  }
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;

  void RunOnPool() {
    if (claimed.exchange(true)) return;
    link->Detach();
    uv_sem_post(&done);
  }
  void Finish() {
    if (claimed.exchange(true)) {
      uv_sem_wait(&done);  // the pool has begun, so this ends
    } else {
      link->Detach();
    }
  }

  const std::shared_ptr<Link> link;  // and by its strong reference the object, until it is detached
  std::atomic<bool> claimed{false};
  uv_sem_t done;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void Attachment::Detach() {
  if (link) bpf_link__destroy(link);
  link = nullptr;
  if (raw_fd >= 0) close(raw_fd);
  raw_fd = -1;
  if (tc) {
    LogCapture quiet;
    tc_opts.prog_fd = tc_opts.prog_id = tc_opts.flags = 0;
    auto detach = [this] { return bpf_tc_detach(&tc_hook, &tc_opts); };
    if (tc_netns >= 0) {
      InNetns(tc_netns, detach);
      close(tc_netns);
    } else {
      detach();
    }
    tc = false;
  }
}

void Link::Close() {
  if (!object) return;
  if (closing) {
    closing->Finish();
  } else {
    Detach();
  }
  Object* owner = object;
  object = nullptr;
  owner->Release(this);
}

namespace {

void StartFirst(Env* env);

void Execute(napi_env, void* data) { static_cast<Closing*>(data)->RunOnPool(); }

void Complete(napi_env napi, napi_status, void* data) {
  auto* closing = static_cast<Closing*>(data);
  std::shared_ptr<Env> env = closing->link->env;
  closing->link->Close();  // takes it out of the object; detaches it here where the pool was not reached
  napi_value undefined = nullptr;
  napi_get_undefined(napi, &undefined);
  napi_resolve_deferred(napi, closing->deferred, undefined);  // refused where the environment ends: nothing waits then
  napi_delete_async_work(napi, closing->work);
  env->closings.pop_front();
  StartFirst(env.get());
}

// One at a time: detaching waits for the kernel and not for a processor, and the pool has other work to do.
void StartFirst(Env* env) {
  if (env->closings.empty()) return;
  Closing* first = env->closings.front().get();
  napi_value name = nullptr;
  napi_create_string_utf8(env->env, "knp:close", NAPI_AUTO_LENGTH, &name);
  if (napi_create_async_work(env->env, nullptr, name, Execute, Complete, first, &first->work) == napi_ok &&
      napi_queue_async_work(env->env, first->work) == napi_ok)
    return;
  Complete(env->env, napi_cancelled, first);  // no pool any more: here and now
}

// linkClose(link): returns when it is detached
napi_value CloseNow(Call& call) {
  auto link = call.Get<Link>(0, Kind::kLink, "BPF link");
  if (!link) return nullptr;
  link->Close();
  return call.Undefined();
}

// linkCloseLater(link): a promise that is resolved when it is detached. The link counts as closed at once.
napi_value CloseLater(Call& call) {
  auto link = call.Get<Link>(0, Kind::kLink, "BPF link");
  if (!link) return nullptr;
  napi_value promise = nullptr, undefined = call.Undefined();
  napi_deferred deferred;
  if (napi_create_promise(call.napi, &deferred, &promise) != napi_ok) return nullptr;
  if (link->closed()) {
    napi_resolve_deferred(call.napi, deferred, undefined);
    return promise;
  }
  auto closing = std::make_shared<Closing>(link);
  closing->deferred = deferred;
  link->closing = closing.get();
  call.env->closings.push_back(std::move(closing));
  if (call.env->closings.size() == 1) StartFirst(call.env.get());
  return promise;
}

napi_value IsClosed(Call& call) {
  auto link = call.Get<Link>(0, Kind::kLink, "BPF link");
  return link ? call.Bool(link->closed()) : nullptr;
}

}  // namespace

// The environment ends, and its objects have closed their links. Node has run what was on the pool to its end; should
// a later Node not, the memory of the one under way is not freed.
void DropClosings(Env* env) {
  while (env->closings.size() > 1) env->closings.pop_back();
}

void ExportClosing(napi_env env, napi_value exports) {
  Export(env, exports, "linkClose", CloseNow);
  Export(env, exports, "linkCloseLater", CloseLater);
  Export(env, exports, "linkIsClosed", IsClosed);
}

}  // namespace knp
