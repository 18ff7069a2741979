// Ring buffers: records are taken off the ring in C++ and handed to JavaScript as one buffer per turn of the event
// loop. Layout of a batch: for every record a u32 with its size, a u32 of zero, its bytes, padding to 8.
#include "knp.h"

#include <cerrno>
#include <cstring>

namespace knp {

void Ring::Close() {
  if (!object) return;
  Object* owner = object;
  object = nullptr;
  if (poll) {
    // libuv frees a handle only on a later turn; the environment waits for it
    poll->data = new std::shared_ptr<Env>(env);
    env->closing_polls++;
    uv_close(reinterpret_cast<uv_handle_t*>(poll), [](uv_handle_t* handle) {
      auto* env = static_cast<std::shared_ptr<Env>*>(handle->data);
      (*env)->closing_polls--;
      (*env)->FinishCleanupIfIdle();
      delete env;
      delete reinterpret_cast<uv_poll_t*>(handle);
    });
    poll = nullptr;
  }
  if (ring) ring_buffer__free(ring);
  ring = nullptr;
  if (callback) napi_delete_reference(env->env, callback);
  if (context) napi_async_destroy(env->env, context);
  callback = nullptr;
  context = nullptr;
  owner->Release(this);
}

namespace {

constexpr int kBatchFull = -ENOBUFS;  // stops libbpf's loop after the record that filled the batch

int OnRecord(void* data, void* record, size_t size) {
  auto* ring = static_cast<Ring*>(data);
  uint32_t header[2] = {static_cast<uint32_t>(size), 0};
  size_t at = ring->batch.size(), padded = (size + 7) / 8 * 8;
  ring->batch.resize(at + sizeof(header) + padded);
  memcpy(ring->batch.data() + at, header, sizeof(header));
  memcpy(ring->batch.data() + at + sizeof(header), record, size);
  ring->batch_count++;
  return ring->batch.size() >= ring->batch_limit ? kBatchFull : 0;
}

// Takes up to one batch off the ring. Returns null when there is nothing.
napi_value TakeBatch(napi_env env, Ring* ring, uint32_t* count) {
  ring->batch.clear();
  ring->batch_count = 0;
  ring_buffer__consume(ring->ring);
  *count = ring->batch_count;
  if (ring->batch_count == 0) return nullptr;
  napi_value buffer = nullptr;
  napi_create_buffer_copy(env, ring->batch.size(), ring->batch.data(), nullptr, &buffer);
  return buffer;
}

void OnReadable(uv_poll_t* poll, int status, int) {
  auto ring = static_cast<Ring*>(poll->data)->shared_from_this();  // the callback may close it
  napi_env env = ring->env->env;
  napi_handle_scope scope;
  if (status < 0 || napi_open_handle_scope(env, &scope) != napi_ok) return;
  uint32_t count = 0;
  napi_value argv[2], callback = nullptr, receiver = nullptr;
  argv[0] = TakeBatch(env, ring.get(), &count);
  if (argv[0]) {
    napi_create_uint32(env, count, &argv[1]);
    napi_get_reference_value(env, ring->callback, &callback);
    napi_get_global(env, &receiver);
    if (napi_make_callback(env, ring->context, receiver, callback, 2, argv, nullptr) == napi_pending_exception) {
      napi_value exception = nullptr;
      napi_get_and_clear_last_exception(env, &exception);
      napi_fatal_exception(env, exception);  // 'uncaughtException', as for any other callback
    }
  }
  napi_close_handle_scope(env, scope);
}

// ringOpen(map, callback(buffer, count), batchBytes): external
napi_value Open(Call& call) {
  auto map = call.GetMap(0);
  int64_t limit;
  napi_valuetype type;
  if (!map || !call.GetInt(2, &limit)) return nullptr;
  if (napi_typeof(call.napi, call.args[1], &type) != napi_ok || type != napi_function)
    return call.Misuse("the callback must be a function");
  if (map->type != BPF_MAP_TYPE_RINGBUF) return call.Misuse("map '" + map->name + "' is not a ring buffer");
  if (call.env->cleaning) return call.Misuse("the environment is shutting down");
  auto ring = std::make_shared<Ring>(call.env, map->object.get());
  ring->batch_limit = limit;
  LogCapture log;
  ring->ring = ring_buffer__new(map->fd, OnRecord, ring.get(), nullptr);
  auto poll = std::make_unique<uv_poll_t>();
  int error = ring->ring ? uv_poll_init(call.env->loop, poll.get(), ring_buffer__epoll_fd(ring->ring)) : -errno;
  if (error) {
    if (ring->ring) ring_buffer__free(ring->ring);
    ring->ring = nullptr;
    ring->object = nullptr;
    return call.Fail(error, "cannot read ring buffer '" + map->name + "'", log.text());
  }
  ring->poll = poll.release();
  ring->poll->data = ring.get();
  napi_create_reference(call.napi, call.args[1], 1, &ring->callback);
  napi_async_init(call.napi, nullptr, call.String("knp:ring"), &ring->context);
  map->object->Adopt(ring);
  uv_poll_start(ring->poll, UV_READABLE, OnReadable);
  return call.Wrap(ring);
}

std::shared_ptr<Ring> GetRing(Call& call) {
  auto ring = call.Get<Ring>(0, Kind::kRing, "ring buffer reader");
  if (ring && ring->closed()) {
    call.Misuse("the ring buffer reader is closed");
    return nullptr;
  }
  return ring;
}

// ringTake(ring): {buffer, count} | undefined: what is there now, up to one batch, without waiting for the event loop
napi_value Take(Call& call) {
  auto ring = GetRing(call);
  if (!ring) return nullptr;
  uint32_t count = 0;
  napi_value buffer = TakeBatch(call.napi, ring.get(), &count);
  if (!buffer) return call.Undefined();
  napi_value result = call.Dict();
  call.Set(result, "buffer", buffer);
  call.Set(result, "count", call.Number(count));
  return result;
}

// ringRef(ring, on): whether it keeps the event loop alive
napi_value Ref(Call& call) {
  auto ring = GetRing(call);
  bool on;
  if (!ring || !call.GetBool(1, &on)) return nullptr;
  auto* handle = reinterpret_cast<uv_handle_t*>(ring->poll);
  if (on) uv_ref(handle);
  else uv_unref(handle);
  return call.Undefined();
}

napi_value Close(Call& call) {
  auto ring = call.Get<Ring>(0, Kind::kRing, "ring buffer reader");
  if (!ring) return nullptr;
  ring->Close();
  return call.Undefined();
}

napi_value IsClosed(Call& call) {
  auto ring = call.Get<Ring>(0, Kind::kRing, "ring buffer reader");
  return ring ? call.Bool(ring->closed()) : nullptr;
}

}  // namespace

void ExportRing(napi_env env, napi_value exports) {
  Export(env, exports, "ringOpen", Open);
  Export(env, exports, "ringTake", Take);
  Export(env, exports, "ringRef", Ref);
  Export(env, exports, "ringClose", Close);
  Export(env, exports, "ringIsClosed", IsClosed);
}

}  // namespace knp
