// BPF objects: open, prepare, load, describe, close.
#include "knp.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace knp {

void Object::Adopt(std::shared_ptr<Handle> child) {
  children.push_back(std::move(child));
  if (children.size() == 1 && self) napi_reference_ref(env->env, self, nullptr);
}

void Object::Release(Handle* child) {
  auto at = std::find_if(children.begin(), children.end(), [&](auto& c) { return c.get() == child; });
  if (at == children.end()) return;
  std::shared_ptr<Handle> keep = std::move(*at);  // the child is still running its Close()
  children.erase(at);
  if (children.empty() && self) napi_reference_unref(env->env, self, nullptr);
}

void Object::Close() {
  if (!object) return;
  while (!children.empty()) {
    std::shared_ptr<Handle> last = children.back();
    last->Close();  // takes itself out of the list
  }
  env->open.erase(this);
  bpf_object__close(object);
  object = nullptr;
  if (self) napi_delete_reference(env->env, self);
  self = nullptr;
}

namespace {

// objectOpen(bytes, name, debug): external
napi_value Open(Call& call) {
  const uint8_t* bytes;
  size_t size;
  std::string name;
  bool debug;
  if (!call.GetBytes(0, &bytes, &size) || !call.GetString(1, &name) || !call.GetBool(2, &debug)) return nullptr;
  if (call.env->cleaning) return call.Misuse("the environment is shutting down");
  LogCapture log(debug);
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name.c_str());
  bpf_object* opened = bpf_object__open_mem(bytes, size, &options);
  if (!opened) return call.Fail(errno, "cannot open BPF object '" + name + "'", log.text());
  auto object = std::make_shared<Object>(call.env);
  object->object = opened;
  call.env->open.insert(object.get());
  napi_value value = call.Wrap(object);
  if (value) napi_create_reference(call.napi, value, 0, &object->self);
  return value;
}

// objectClose(object): idempotent; its links are detached and its ring readers stopped first
napi_value Close(Call& call) {
  auto object = call.Get<Object>(0, Kind::kObject, "BPF object");
  if (!object) return nullptr;
  object->Close();
  return call.Undefined();
}

napi_value IsClosed(Call& call) {
  auto object = call.Get<Object>(0, Kind::kObject, "BPF object");
  return object ? call.Bool(object->closed()) : nullptr;
}

// objectLoad(object, debug): string, what libbpf printed
napi_value Load(Call& call) {
  bool debug;
  auto object = call.GetObject(0, false);
  if (!object || !call.GetBool(1, &debug)) return nullptr;
  std::string name = bpf_object__name(object->object);
  if (object->loaded) return call.Misuse("BPF object '" + name + "' is already loaded");
  LogCapture log(debug);
  int error = bpf_object__load(object->object);
  if (error) return call.Fail(error, "cannot load BPF object '" + name + "'", log.text());
  object->loaded = true;
  return call.String(log.text().c_str());
}

// objectPrograms(object): {name, section, type, attachType, autoload}[]
napi_value Programs(Call& call) {
  auto object = call.GetObject(0, false);
  if (!object) return nullptr;
  napi_value list = call.Array();
  uint32_t index = 0;
  bpf_program* program;
  bpf_object__for_each_program(program, object->object) {
    napi_value entry = call.Dict();
    auto attach = bpf_program__expected_attach_type(program);
    call.Set(entry, "name", call.String(bpf_program__name(program)));
    call.Set(entry, "section", call.String(bpf_program__section_name(program)));
    call.Set(entry, "type", call.String(libbpf_bpf_prog_type_str(bpf_program__type(program))));
    call.Set(entry, "attachType", call.String(libbpf_bpf_attach_type_str(attach)));
    call.Set(entry, "autoload", call.Bool(bpf_program__autoload(program)));
    napi_set_element(call.napi, list, index++, entry);
  }
  return list;
}

// objectMaps(object): {name, type, keySize, valueSize, maxEntries, initialSize}[]
napi_value Maps(Call& call) {
  auto object = call.GetObject(0, false);
  if (!object) return nullptr;
  napi_value list = call.Array();
  uint32_t index = 0;
  bpf_map* map;
  bpf_object__for_each_map(map, object->object) {
    napi_value entry = call.Dict();
    size_t initial = 0;
    if (!bpf_map__initial_value(map, &initial)) initial = 0;
    call.Set(entry, "name", call.String(bpf_map__name(map)));
    call.Set(entry, "type", call.String(libbpf_bpf_map_type_str(bpf_map__type(map))));
    call.Set(entry, "keySize", call.Number(bpf_map__key_size(map)));
    call.Set(entry, "valueSize", call.Number(bpf_map__value_size(map)));
    call.Set(entry, "maxEntries", call.Number(bpf_map__max_entries(map)));
    call.Set(entry, "initialSize", call.Number(initial));
    napi_set_element(call.napi, list, index++, entry);
  }
  return list;
}

// objectBtf(object): Buffer | undefined, the raw .BTF as libbpf completed it (data section offsets filled in)
napi_value Btf(Call& call) {
  auto object = call.GetObject(0, false);
  if (!object) return nullptr;
  btf* types = bpf_object__btf(object->object);
  uint32_t size = 0;
  const void* data = types ? btf__raw_data(types, &size) : nullptr;
  return data ? call.Bytes(data, size) : call.Undefined();
}

bpf_map* FindUnloadedMap(Call& call, Object* object, size_t i, std::string* name) {
  if (!call.GetString(i, name)) return nullptr;
  if (object->loaded) {
    call.Misuse("the BPF object is already loaded");
    return nullptr;
  }
  bpf_map* map = bpf_object__find_map_by_name(object->object, name->c_str());
  if (!map) call.Misuse("the BPF object has no map '" + *name + "'");
  return map;
}

// objectSetInitialValue(object, map, offset, bytes): writes into a data section before it is loaded
napi_value SetInitialValue(Call& call) {
  auto object = call.GetObject(0, false);
  std::string name;
  int64_t offset;
  const uint8_t* bytes;
  size_t size, room = 0;
  if (!object) return nullptr;
  bpf_map* map = FindUnloadedMap(call, object.get(), 1, &name);
  if (!map || !call.GetInt(2, &offset) || !call.GetBytes(3, &bytes, &size)) return nullptr;
  auto* value = static_cast<uint8_t*>(bpf_map__initial_value(map, &room));
  if (!value || offset < 0 || static_cast<uint64_t>(offset) > room || size > room - offset)
    return call.Misuse("no such place in the initial value of map '" + name + "'");
  memcpy(value + offset, bytes, size);
  return call.Undefined();
}

napi_value SetAutoload(Call& call) {
  auto object = call.GetObject(0, false);
  bool on;
  if (!object) return nullptr;
  bpf_program* program = call.GetProgram(object.get(), 1, false);
  if (!program || !call.GetBool(2, &on)) return nullptr;
  int error = bpf_program__set_autoload(program, on);
  return error ? call.Fail(error, "cannot set autoload") : call.Undefined();
}

napi_value SetMaxEntries(Call& call) {
  auto object = call.GetObject(0, false);
  std::string name;
  int64_t entries;
  if (!object) return nullptr;
  bpf_map* map = FindUnloadedMap(call, object.get(), 1, &name);
  if (!map || !call.GetInt(2, &entries)) return nullptr;
  int error = bpf_map__set_max_entries(map, entries);
  return error ? call.Fail(error, "cannot set max_entries of map '" + name + "'") : call.Undefined();
}

// objectSetAutocreate(object, map, on): a map type that the kernel lacks can be left out
napi_value SetAutocreate(Call& call) {
  auto object = call.GetObject(0, false);
  std::string name;
  bool on;
  if (!object) return nullptr;
  bpf_map* map = FindUnloadedMap(call, object.get(), 1, &name);
  if (!map || !call.GetBool(2, &on)) return nullptr;
  int error = bpf_map__set_autocreate(map, on);
  return error ? call.Fail(error, "cannot set autocreate of map '" + name + "'") : call.Undefined();
}

// objectReuseMap(object, map, other): this object's map becomes the other object's map of any name
napi_value ReuseMap(Call& call) {
  auto object = call.GetObject(0, false);
  std::string name;
  if (!object) return nullptr;
  bpf_map* map = FindUnloadedMap(call, object.get(), 1, &name);
  if (!map) return nullptr;
  auto other = call.GetMap(2);
  if (!other) return nullptr;
  if (bpf_map__type(map) != other->type || bpf_map__key_size(map) != other->key_size ||
      bpf_map__value_size(map) != other->value_size)
    return call.Misuse("map '" + name + "' differs in type, key or value size from the map to reuse");
  LogCapture log;
  int error = bpf_map__reuse_fd(map, other->fd);
  if (error) return call.Fail(error, "cannot reuse map '" + other->name + "' as '" + name + "'", log.text());
  return call.Undefined();
}

// objectMap(object, name): external
napi_value FindMap(Call& call) {
  auto object = call.GetObject(0);
  std::string name;
  if (!object || !call.GetString(1, &name)) return nullptr;
  bpf_map* found = bpf_object__find_map_by_name(object->object, name.c_str());
  if (!found) return call.Misuse("the BPF object has no map '" + name + "'");
  if (bpf_map__fd(found) < 0) return call.Misuse("map '" + name + "' was not created (autocreate is off)");
  auto map = std::make_shared<Map>(call.env, object);
  map->name = name;
  map->fd = bpf_map__fd(found);
  map->type = bpf_map__type(found);
  map->key_size = bpf_map__key_size(found);
  map->value_size = bpf_map__value_size(found);
  map->max_entries = bpf_map__max_entries(found);
  return call.Wrap(map);
}

}  // namespace

void ExportObject(napi_env env, napi_value exports) {
  Export(env, exports, "objectOpen", Open);
  Export(env, exports, "objectClose", Close);
  Export(env, exports, "objectIsClosed", IsClosed);
  Export(env, exports, "objectLoad", Load);
  Export(env, exports, "objectPrograms", Programs);
  Export(env, exports, "objectMaps", Maps);
  Export(env, exports, "objectBtf", Btf);
  Export(env, exports, "objectSetInitialValue", SetInitialValue);
  Export(env, exports, "objectSetAutoload", SetAutoload);
  Export(env, exports, "objectSetMaxEntries", SetMaxEntries);
  Export(env, exports, "objectSetAutocreate", SetAutocreate);
  Export(env, exports, "objectReuseMap", ReuseMap);
  Export(env, exports, "objectMap", FindMap);
}

}  // namespace knp
