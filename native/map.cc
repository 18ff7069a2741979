// Maps: single elements, and whole maps by the kernel's batch commands with a key-by-key fallback.
#include "knp.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_set>

namespace knp {

bool Map::per_cpu() const {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH ||
         type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

size_t Map::stored_value_size() const {
  if (!per_cpu()) return value_size;
  return (value_size + 7) / 8 * 8 * static_cast<size_t>(libbpf_num_possible_cpus());
}

namespace {

constexpr size_t kChunkBytes = 1 << 20;  // of raw values per batch command: what a per-CPU map needs grows with CPUs
constexpr int kNotSupported = 524;       // the kernel's ENOTSUPP, which has no name in userspace

enum Sum { kRaw = 0, kU32 = 4, kU64 = 8 };

bool IsArray(bpf_map_type type) { return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY; }

template <class Word>
void AddWords(uint8_t* out, const uint8_t* in, size_t size) {
  for (size_t i = 0; i + sizeof(Word) <= size; i += sizeof(Word)) {
    Word a, b;
    memcpy(&a, out + i, sizeof a);
    memcpy(&b, in + i, sizeof b);
    a += b;
    memcpy(out + i, &a, sizeof a);
  }
}

// Appends one stored value: as it is, or its CPUs' values added word by word.
void AppendValue(const Map& map, Sum sum, const uint8_t* stored, std::vector<uint8_t>* out) {
  if (sum == kRaw || !map.per_cpu()) {
    out->insert(out->end(), stored, stored + map.stored_value_size());
    return;
  }
  size_t at = out->size(), stride = (map.value_size + 7) / 8 * 8, cpus = map.stored_value_size() / stride;
  out->resize(at + map.value_size);
  for (size_t cpu = 0; cpu < cpus; cpu++) {
    if (sum == kU64) AddWords<uint64_t>(out->data() + at, stored + cpu * stride, map.value_size);
    if (sum == kU32) AddWords<uint32_t>(out->data() + at, stored + cpu * stride, map.value_size);
  }
}

struct Contents {
  std::vector<uint8_t> keys, values;
  uint32_t count = 0;
  const char* method = "batch";
};

// One pass by BPF_MAP_LOOKUP(_AND_DELETE)_BATCH; 0, or a negative errno.
int ReadBatches(const Map& map, Sum sum, bool remove, Contents* out) {
  size_t stored = map.stored_value_size();
  uint32_t chunk = std::max<size_t>(64, kChunkBytes / std::max<size_t>(stored, 1));
  chunk = std::min(chunk, std::max<uint32_t>(map.max_entries, 1));
  std::vector<uint8_t> keys, values, from(std::max<size_t>(map.key_size, 8)), to(from.size());
  bool first = true;
  for (;;) {
    keys.resize(size_t{chunk} * map.key_size);
    values.resize(size_t{chunk} * stored);
    uint32_t count = chunk;
    int error = remove ? bpf_map_lookup_and_delete_batch(map.fd, first ? nullptr : from.data(), to.data(), keys.data(),
                                                         values.data(), &count, nullptr)
                       : bpf_map_lookup_batch(map.fd, first ? nullptr : from.data(), to.data(), keys.data(),
                                              values.data(), &count, nullptr);
    if (error == -ENOSPC) {  // a hash bucket holds more elements than the chunk has room for: nothing was taken
      chunk *= 2;
      continue;
    }
    if (error == -EINTR || error == -EAGAIN) continue;
    if (error && error != -ENOENT) return error;
    out->keys.insert(out->keys.end(), keys.begin(), keys.begin() + size_t{count} * map.key_size);
    for (uint32_t i = 0; i < count; i++) AppendValue(map, sum, values.data() + i * stored, &out->values);
    out->count += count;
    if (error == -ENOENT) return 0;
    first = false;
    std::swap(from, to);
  }
}

// Key by key. When the key that we stand on is deleted meanwhile the kernel starts over, so keys seen are remembered,
// and a walk that others keep throwing back ends after a bounded number of steps with EAGAIN.
int ReadKeys(const Map& map, Sum sum, bool remove, Contents* out) {
  std::vector<uint8_t> value(map.stored_value_size()), key(map.key_size), next(map.key_size);
  std::unordered_set<std::string> seen;
  bool first = true;
  out->method = "next_key";
  for (uint64_t steps = 0; steps < 8 * uint64_t{map.max_entries} + 8; steps++) {
    int error = bpf_map_get_next_key(map.fd, first ? nullptr : key.data(), next.data());
    if (error == -ENOENT) return 0;
    if (error) return error;
    first = remove;  // a key just taken out cannot be continued from
    std::swap(key, next);
    if (!remove && !seen.insert(std::string(key.begin(), key.end())).second) continue;
    error = remove ? bpf_map_lookup_and_delete_elem(map.fd, key.data(), value.data())
                   : bpf_map_lookup_elem(map.fd, key.data(), value.data());
    if (error == -ENOENT) continue;
    if (error) return error;
    out->keys.insert(out->keys.end(), key.begin(), key.end());
    AppendValue(map, sum, value.data(), &out->values);
    out->count++;
  }
  return -EAGAIN;
}

bool GetKey(Call& call, const Map& map, const uint8_t** key) {
  size_t size;
  if (!call.GetBytes(1, key, &size)) return false;
  if (size == map.key_size) return true;
  call.Misuse("map '" + map.name + "': the key has " + std::to_string(size) + " bytes, not " +
              std::to_string(map.key_size));
  return false;
}

bool GetSum(Call& call, const Map& map, size_t i, Sum* sum) {
  int64_t width;
  if (!call.GetInt(i, &width)) return false;
  *sum = width == 8 ? kU64 : width == 4 ? kU32 : kRaw;
  if (*sum == kRaw || map.value_size % *sum == 0) return true;
  call.Misuse("map '" + map.name + "': its values of " + std::to_string(map.value_size) +
              " bytes are not made of words of " + std::to_string(width) + " bytes");
  return false;
}

napi_value Failed(Call& call, const Map& map, int error, const char* what) {
  return call.Fail(error, std::string(what) + " map '" + map.name + "' failed");
}

// mapInfo(map): {name, type, keySize, valueSize, maxEntries, fd, id, perCpu, cpus}
napi_value Info(Call& call) {
  auto map = call.GetMap(0);
  if (!map) return nullptr;
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  int error = bpf_map_get_info_by_fd(map->fd, &info, &size);
  if (error) return Failed(call, *map, error, "reading the info of");
  napi_value result = call.Dict();
  call.Set(result, "name", call.String(map->name.c_str()));
  call.Set(result, "type", call.String(libbpf_bpf_map_type_str(map->type)));
  call.Set(result, "keySize", call.Number(map->key_size));
  call.Set(result, "valueSize", call.Number(map->value_size));
  call.Set(result, "maxEntries", call.Number(info.max_entries));
  call.Set(result, "fd", call.Number(map->fd));
  call.Set(result, "id", call.Number(info.id));
  call.Set(result, "perCpu", call.Bool(map->per_cpu()));
  return result;
}

// mapLookup(map, key, sum, remove): Buffer | undefined
napi_value Lookup(Call& call) {
  auto map = call.GetMap(0);
  const uint8_t* key;
  Sum sum;
  bool remove;
  if (!map || !GetKey(call, *map, &key) || !GetSum(call, *map, 2, &sum) || !call.GetBool(3, &remove)) return nullptr;
  std::vector<uint8_t> value(map->stored_value_size());
  int error = remove ? bpf_map_lookup_and_delete_elem(map->fd, key, value.data())
                     : bpf_map_lookup_elem(map->fd, key, value.data());
  if (error == -ENOENT) return call.Undefined();
  if (error) return Failed(call, *map, error, remove ? "lookup and delete in" : "lookup in");
  if (sum == kRaw) return call.Bytes(value.data(), value.size());
  std::vector<uint8_t> out;
  AppendValue(*map, sum, value.data(), &out);
  return call.Bytes(out.data(), out.size());
}

// mapUpdate(map, key, value, flags): boolean; false where the flags forbid it (the key exists, or does not)
napi_value Update(Call& call) {
  auto map = call.GetMap(0);
  const uint8_t *key, *value;
  size_t size;
  uint64_t flags;
  if (!map || !GetKey(call, *map, &key) || !call.GetBytes(2, &value, &size) || !call.GetU64(3, &flags)) return nullptr;
  if (size != map->stored_value_size())
    return call.Misuse("map '" + map->name + "': the value has " + std::to_string(size) + " bytes, not " +
                       std::to_string(map->stored_value_size()));
  int error = bpf_map_update_elem(map->fd, key, value, flags);
  if ((error == -EEXIST && flags == BPF_NOEXIST) || (error == -ENOENT && flags == BPF_EXIST)) return call.Bool(false);
  if (error) return Failed(call, *map, error, "update of");
  return call.Bool(true);
}

// mapUpdateMany(map, keys, values, count): writes count elements, in one command where the kernel can
napi_value UpdateMany(Call& call) {
  auto map = call.GetMap(0);
  const uint8_t *keys, *values;
  size_t keys_size, values_size;
  int64_t count;
  if (!map || !call.GetBytes(1, &keys, &keys_size) || !call.GetBytes(2, &values, &values_size) ||
      !call.GetInt(3, &count))
    return nullptr;
  size_t stored = map->stored_value_size();
  if (count < 0 || keys_size != uint64_t(count) * map->key_size || values_size != uint64_t(count) * stored)
    return call.Misuse("map '" + map->name + "': keys and values do not have " + std::to_string(count) + " elements");
  uint32_t done = count;
  int error = count ? bpf_map_update_batch(map->fd, keys, values, &done, nullptr) : 0;
  if (error == -EINVAL || error == -kNotSupported || error == -EOPNOTSUPP || error == -EINTR) {
    error = 0;
    for (int64_t i = 0; i < count && !error; i++)
      error = bpf_map_update_elem(map->fd, keys + i * map->key_size, values + i * stored, BPF_ANY);
  }
  if (error) return Failed(call, *map, error, "update of");
  return call.Undefined();
}

// mapDelete(map, key): boolean; false where there was no such key
napi_value Delete(Call& call) {
  auto map = call.GetMap(0);
  const uint8_t* key;
  if (!map || !GetKey(call, *map, &key)) return nullptr;
  int error = bpf_map_delete_elem(map->fd, key);
  if (error == -ENOENT) return call.Bool(false);
  if (error) return Failed(call, *map, error, "delete in");
  return call.Bool(true);
}

// Deletes every key listed; keys that are gone already are no error.
int DeleteKeys(const Map& map, const Contents& contents) {
  for (uint32_t i = 0; i < contents.count; i++) {
    int error = bpf_map_delete_elem(map.fd, contents.keys.data() + size_t{i} * map.key_size);
    if (error && error != -ENOENT) return error;
  }
  return 0;
}

// mapReadAll(map, sum, remove, method): {count, keys, values, method}; method 0 choose, 1 batch, 2 next_key
napi_value ReadAll(Call& call) {
  auto map = call.GetMap(0);
  Sum sum;
  bool remove;
  int64_t method;
  if (!map || !GetSum(call, *map, 1, &sum) || !call.GetBool(2, &remove) || !call.GetInt(3, &method)) return nullptr;
  if (remove && IsArray(map->type)) return call.Misuse("map '" + map->name + "' is an array: nothing can be taken out");
  Contents contents;
  size_t hint = std::min<size_t>(map->last_count + map->last_count / 8, map->max_entries);
  contents.keys.reserve(hint * map->key_size);
  contents.values.reserve(hint * (sum == kRaw ? map->stored_value_size() : map->value_size));
  int error = method == 2 ? -EINVAL : ReadBatches(*map, sum, remove, &contents);
  bool unsupported = error == -EINVAL || error == -kNotSupported || error == -EOPNOTSUPP;
  if (unsupported && contents.count == 0 && method != 1) error = ReadKeys(*map, sum, remove, &contents);
  if (error) return Failed(call, *map, error, "reading");
  map->last_count = contents.count;
  napi_value result = call.Dict();
  call.Set(result, "count", call.Number(contents.count));
  call.Set(result, "keys", call.Bytes(contents.keys.data(), contents.keys.size()));
  call.Set(result, "values", call.Bytes(contents.values.data(), contents.values.size()));
  call.Set(result, "method", call.String(contents.method));
  return result;
}

// mapCount(map): number of elements now, by walking the keys; undefined for types without a walk
napi_value Count(Call& call) {
  auto map = call.GetMap(0);
  if (!map) return nullptr;
  if (IsArray(map->type)) return call.Number(map->max_entries);
  std::vector<uint8_t> key(map->key_size), next(map->key_size);
  uint64_t count = 0;
  int error = bpf_map_get_next_key(map->fd, nullptr, next.data());
  while (!error && count < map->max_entries) {
    count++;
    std::swap(key, next);
    error = bpf_map_get_next_key(map->fd, key.data(), next.data());
  }
  if (error == -EINVAL || error == -kNotSupported || error == -EOPNOTSUPP) return call.Undefined();
  if (error && error != -ENOENT) return Failed(call, *map, error, "counting");
  return call.Number(count);
}

// mapClear(map): deletes every element; zeroes those of an array
napi_value Clear(Call& call) {
  auto map = call.GetMap(0);
  if (!map) return nullptr;
  int error = 0;
  if (IsArray(map->type)) {
    std::vector<uint8_t> zero(map->stored_value_size());
    for (uint32_t i = 0; i < map->max_entries && !error; i++)
      error = bpf_map_update_elem(map->fd, &i, zero.data(), BPF_ANY);
  } else {
    Contents contents;
    error = ReadBatches(*map, kRaw, false, &contents);
    if (error == -EINVAL || error == -kNotSupported || error == -EOPNOTSUPP)
      error = ReadKeys(*map, kRaw, false, &contents);
    if (!error) error = DeleteKeys(*map, contents);
  }
  return error ? Failed(call, *map, error, "clearing") : call.Undefined();
}

}  // namespace

void ExportMap(napi_env env, napi_value exports) {
  Export(env, exports, "mapInfo", Info);
  Export(env, exports, "mapLookup", Lookup);
  Export(env, exports, "mapUpdate", Update);
  Export(env, exports, "mapUpdateMany", UpdateMany);
  Export(env, exports, "mapDelete", Delete);
  Export(env, exports, "mapReadAll", ReadAll);
  Export(env, exports, "mapCount", Count);
  Export(env, exports, "mapClear", Clear);
}

}  // namespace knp
