// Files: many of /proc at once without holding the event loop, and what the file system calls a file.
#include "knp.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

namespace knp {
namespace {

struct File {
  std::string path;
  int error = 0;
  bool more = false;  // cut at the limit
  std::string text;
};

void ReadFile(File* file, size_t limit) {
  int fd = open(file->path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    file->error = errno;
    return;
  }
  char chunk[16 << 10];
  for (ssize_t got; (got = read(fd, chunk, sizeof(chunk))) != 0;) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      file->error = errno;
      break;
    }
    file->more = file->text.size() + got > limit;
    file->text.append(chunk, file->more ? limit - file->text.size() : got);
    if (file->more) break;
  }
  close(fd);
}

napi_value Described(napi_env env, const std::vector<File>& files) {
  napi_value list, item, value;
  napi_create_array(env, &list);
  for (uint32_t i = 0; i < files.size(); i++) {
    napi_create_object(env, &item);
    napi_create_int32(env, files[i].error, &value);
    napi_set_named_property(env, item, "error", value);
    napi_get_boolean(env, files[i].more, &value);
    napi_set_named_property(env, item, "more", value);
    napi_create_string_utf8(env, files[i].text.data(), files[i].text.size(), &value);
    napi_set_named_property(env, item, "text", value);
    napi_set_element(env, list, i, item);
  }
  return list;
}

// readFiles(paths, limit): promise of [{error, more, text}] in the order of the paths; at most `limit` bytes of each.
// Files of /proc may wait for a lock of the process that they are about, and one hop to the pool serves many.
napi_value ReadFiles(Call& call) {
  uint32_t count = 0;
  int64_t limit;
  if (napi_get_array_length(call.napi, call.args[0], &count) != napi_ok) return call.Misuse("paths must be an array");
  if (!call.GetInt(1, &limit)) return nullptr;
  auto files = std::make_shared<std::vector<File>>(count);
  for (uint32_t i = 0; i < count; i++) {
    napi_value path;
    char text[256];
    size_t size;
    if (napi_get_element(call.napi, call.args[0], i, &path) != napi_ok ||
        napi_get_value_string_utf8(call.napi, path, text, sizeof(text), &size) != napi_ok)
      return call.Misuse("paths must be strings");
    (*files)[i].path.assign(text, size);
  }
  return OnPool(
      call, "knp:files",
      [files, limit] {
        for (File& file : *files) ReadFile(&file, limit);
      },
      [files](napi_env env) { return Described(env, *files); });
}

// fileHandle(fd): Buffer | undefined where the file system gives none. Two names of one file on an overlay, in two
// mounts even, have one handle, while their device and inode numbers differ (Linux 6.6).
napi_value FileHandle(Call& call) {
  int64_t fd;
  if (!call.GetInt(0, &fd)) return nullptr;
  alignas(file_handle) char room[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
  auto* handle = reinterpret_cast<file_handle*>(room);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount;
  if (name_to_handle_at(fd, "", handle, &mount, AT_EMPTY_PATH | AT_HANDLE_FID)) return call.Undefined();
  return call.Bytes(handle->f_handle, handle->handle_bytes);
}

}  // namespace

void ExportFiles(napi_env env, napi_value exports) {
  Export(env, exports, "readFiles", ReadFiles);
  Export(env, exports, "fileHandle", FileHandle);
}

}  // namespace knp
