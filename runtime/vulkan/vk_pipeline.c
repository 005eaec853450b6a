/* vulkan/vk_pipeline.c - compute pipelines: embedded shaders and generated modules, made on first use and kept; the cache on disk.
**
** All pipelines have one layout (vk.h). An embedded shader is known by its number and specialization constants, a generated module by its words.
** The driver's pipeline cache is kept in a file of our own for each device and driver (in the user's cache folder), which is ignored when anything about it differs, and
** replaced as a whole. It is a convenience: failing to read or write it is no error.
*/
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vk_device.h"
#include "shaders_words.h"

enum { MAXSPEC = 32 };

struct nn_vk_pipeline {
  VkPipeline handle;
  int shader; /* -1: generated */
  int nspec;
  uint32_t spec[MAXSPEC];
  uint32_t *words; /* of a generated one */
  size_t nwords;
  uint64_t hash;
  nn_vk_pipeline *next;
};

VkPipeline nn_vk_pipeline_handle(const nn_vk_pipeline *p) { return p->handle; }

/* ---- embedded SPIR-V --------------------------------------------------------------------------------------------------------------------- */
static const struct {
  const uint32_t *words;
  size_t bytes;
  const char *name;
} embedded[] = {
#define NN_VK_SHADER(name) {nn_vk_words_##name, sizeof nn_vk_words_##name, #name},
#include "shaders_list.h"
#undef NN_VK_SHADER
};

size_t nn_vk_embedded_bytes(void) {
  size_t n = 0;
  for (int i = 0; i < NNI_COUNT(embedded); i++) n += embedded[i].bytes;
  return n;
}

/* ---- making ------------------------------------------------------------------------------------------------------------------------------ */
static uint64_t hash_words(const uint32_t *w, size_t n, uint64_t h) {
  for (size_t i = 0; i < n; i++) h = (h ^ w[i]) * 0x100000001b3u;
  return h ^ h >> 29;
}

static nn_status compile(nn_vk_device *d, nn_vk_pipeline *p, const uint32_t *words, size_t bytes, const char *name, nni_error *err) {
  VkSpecializationMapEntry entry[MAXSPEC];
  char doing[96];
  snprintf(doing, sizeof doing, "compiling the kernel %.60s", name);
  for (int i = 0; i < p->nspec; i++) entry[i] = (VkSpecializationMapEntry){.constantID = (uint32_t)i, .offset = (uint32_t)i * 4, .size = 4};
  const VkSpecializationInfo spec = {
      .mapEntryCount = (uint32_t)p->nspec, .pMapEntries = entry, .dataSize = sizeof(uint32_t) * (size_t)p->nspec, .pData = p->spec};
  const bool full = p->shader == NN_VK_S_matmul_coopmat || p->shader == NN_VK_S_conv2d_lanes || p->shader == NN_VK_S_matmul_lanes; /* subgroups */
  const VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = words};
  VkShaderModule module;
  VkResult r = d->vk.vkCreateShaderModule(d->handle, &code, NULL, &module);
  if (r != VK_SUCCESS) return nn_vk_failed(d, r, doing, err);
  const VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                            .flags = VK_PIPELINE_CREATE_DISPATCH_BASE_BIT,
                                            .layout = d->layout,
                                            .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                      .flags = full ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                                                      .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                      .module = module,
                                                      .pName = "main",
                                                      .pSpecializationInfo = p->nspec > 0 ? &spec : NULL}};
  r = d->vk.vkCreateComputePipelines(d->handle, d->cache, 1, &info, NULL, &p->handle);
  d->vk.vkDestroyShaderModule(d->handle, module, NULL);
  d->counts.pipelines++;
  return r == VK_SUCCESS ? NN_OK : nn_vk_failed(d, r, doing, err);
}

/* The words of an embedded shader as this device takes them. */
static nn_status compile_embedded(nn_vk_device *d, nn_vk_pipeline *p, nni_error *err) {
  const uint32_t *words = embedded[p->shader].words;
  const size_t n = embedded[p->shader].bytes / sizeof *words, room = n + NN_VK_CM_MORE;
  const char *name = embedded[p->shader].name;
  if (p->shader != NN_VK_S_matmul_coopmat || d->coopmat != NN_VK_CM_KHR) return compile(d, p, words, n * sizeof *words, name, err);
  uint32_t *khr = nni_malloc(d->base.mem, room * sizeof *khr);
  if (!khr) return nni_fail(err, NN_ENOMEM, "%s: out of memory while compiling the kernel %s", d->base.name, name);
  const size_t m = nn_vk_coopmat_patch(words, n, khr, room);
  nn_status st = m ? compile(d, p, khr, m * sizeof *khr, name, err) : nni_fail(err, NN_EINTERNAL, "%s: the kernel %s cannot be rewritten (a bug in nnlua)", d->base.name, name);
  nni_free(d->base.mem, khr, room * sizeof *khr);
  return st;
}

static nn_vk_pipeline **chain_of(nn_vk_device *d, uint64_t hash) { return &d->pipelines[hash % (uint64_t)NNI_COUNT(d->pipelines)]; }

static void drop(nn_vk_device *d, nn_vk_pipeline *p) {
  d->vk.vkDestroyPipeline(d->handle, p->handle, NULL);
  nni_free(d->base.mem, p->words, p->nwords * sizeof *p->words);
  nni_free(d->base.mem, p, sizeof *p);
}

nn_vk_pipeline *nn_vk_shader(nn_vk_device *d, int shader, const uint32_t *spec, int nspec, nni_error *err) {
  if (shader < 0 || shader >= NNI_COUNT(embedded) || nspec > MAXSPEC) {
    nni_fail(err, NN_EINTERNAL, "%s: shader %d with %d constants (a bug in nnlua)", d->base.name, shader, nspec);
    return NULL;
  }
  const uint64_t hash = hash_words(spec, (size_t)nspec, 0xcbf29ce484222325u ^ (uint64_t)shader);
  nn_vk_pipeline **head = chain_of(d, hash), *p;
  for (p = *head; p; p = p->next)
    if (p->hash == hash && p->shader == shader && p->nspec == nspec && (nspec == 0 || memcmp(p->spec, spec, sizeof *spec * (size_t)nspec) == 0))
      return p;
  p = nni_calloc(d->base.mem, sizeof *p);
  if (!p) {
    nni_fail(err, NN_ENOMEM, "%s: out of memory while compiling the kernel %s", d->base.name, embedded[shader].name);
    return NULL;
  }
  *p = (nn_vk_pipeline){.shader = shader, .nspec = nspec, .hash = hash};
  if (nspec > 0) memcpy(p->spec, spec, sizeof *spec * (size_t)nspec);
  if (compile_embedded(d, p, err) != NN_OK) {
    drop(d, p);
    return NULL;
  }
  p->next = *head;
  return *head = p;
}

nn_vk_pipeline *nn_vk_generated(nn_vk_device *d, const uint32_t *words, size_t nwords, nni_error *err) {
  const uint64_t hash = hash_words(words, nwords, 0x84222325cbf29ce4u);
  nn_vk_pipeline **head = chain_of(d, hash), *p;
  for (p = *head; p; p = p->next)
    if (p->hash == hash && p->shader < 0 && p->nwords == nwords && memcmp(p->words, words, sizeof *words * nwords) == 0) return p;
  p = nni_calloc(d->base.mem, sizeof *p);
  if (p) *p = (nn_vk_pipeline){.shader = -1, .hash = hash, .words = nni_malloc(d->base.mem, sizeof *words * nwords), .nwords = nwords};
  if (!p || !p->words) {
    nni_fail(err, NN_ENOMEM, "%s: out of memory while compiling a row program", d->base.name);
    nni_free(d->base.mem, p, sizeof *p);
    return NULL;
  }
  memcpy(p->words, words, sizeof *words * nwords);
  if (compile(d, p, words, sizeof *words * nwords, "of a row program", err) != NN_OK) {
    drop(d, p);
    return NULL;
  }
  p->next = *head;
  return *head = p;
}

/* ---- the cache on disk --------------------------------------------------------------------------------------------------------------------- */
typedef struct header {
  char magic[8];
  uint32_t version, vendor, device, driver;
  uint8_t uuid[VK_UUID_SIZE];
  uint64_t bytes, hash;
} header;

static uint64_t hash_bytes(const uint8_t *p, size_t n) {
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
  return h;
}

static header header_of(const nn_vk_device *d, const uint8_t *data, size_t n) {
  header h;
  memset(&h, 0, sizeof h); /* the gaps too: it is compared and written as it lies in memory */
  memcpy(h.magic, "nnlua-vk", 8);
  h.version = 1;
  h.vendor = d->props.vendorID;
  h.device = d->props.deviceID;
  h.driver = d->props.driverVersion;
  memcpy(h.uuid, d->props.pipelineCacheUUID, VK_UUID_SIZE);
  h.bytes = n;
  h.hash = hash_bytes(data, n);
  return h;
}

/* $XDG_CACHE_HOME (which counts only when absolute) or ~/.cache; false without a home or when the path is too long. */
static bool cache_path(const nn_vk_device *d, char *path, size_t n, bool make) {
  const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  const bool xdg = base && base[0] == '/';
  if (!xdg && (!home || home[0] != '/')) return false;
  int used = snprintf(path, n, xdg ? "%s" : "%s/.cache", xdg ? base : home);
  if (used < 0 || (size_t)used + 96 > n) return false;
  if (make) mkdir(path, 0700);
  snprintf(path + used, n - (size_t)used, "/nnlua");
  if (make) mkdir(path, 0700);
  snprintf(path + used, n - (size_t)used, "/nnlua/vulkan-%04x-%04x-%08x.cache", d->props.vendorID, d->props.deviceID, d->props.driverVersion);
  return true;
}

static uint8_t *cache_read(nn_vk_device *d, size_t *bytes) {
  char path[4096];
  header h, own;
  uint8_t *data = NULL;
  FILE *f = cache_path(d, path, sizeof path, false) ? fopen(path, "rb") : NULL;
  *bytes = 0;
  if (!f) return NULL;
  if (fread(&h, sizeof h, 1, f) == 1 && h.bytes > 0 && h.bytes <= (uint64_t)256 << 20 && (data = nni_malloc(d->base.mem, h.bytes))) {
    const bool whole = fread(data, 1, h.bytes, f) == h.bytes && fgetc(f) == EOF;
    if (whole) own = header_of(d, data, h.bytes);
    if (whole && memcmp(&h, &own, sizeof h) == 0) *bytes = h.bytes;
    else {
      nni_free(d->base.mem, data, h.bytes);
      data = NULL;
    }
  }
  fclose(f);
  return data;
}

/* Written beside and renamed, so that a reader sees the old file or the new one. */
static void cache_write(nn_vk_device *d) {
  char path[4096], temp[4096 + 32];
  size_t n = 0;
  if (d->counts.pipelines == 0 || d->lost || !cache_path(d, path, sizeof path, true)) return;
  if (d->vk.vkGetPipelineCacheData(d->handle, d->cache, &n, NULL) != VK_SUCCESS || n == 0) return;
  uint8_t *data = nni_malloc(d->base.mem, n);
  const size_t room = n;
  if (!data) return;
  snprintf(temp, sizeof temp, "%s.%ld.tmp", path, (long)getpid());
  int fd = d->vk.vkGetPipelineCacheData(d->handle, d->cache, &n, data) == VK_SUCCESS ? open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
  FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
  if (f) {
    const header h = header_of(d, data, n);
    bool good = fwrite(&h, sizeof h, 1, f) == 1 && fwrite(data, 1, n, f) == n;
    good = fclose(f) == 0 && good;
    if (!good || rename(temp, path) != 0) unlink(temp);
  } else if (fd >= 0) {
    close(fd);
    unlink(temp);
  }
  nni_free(d->base.mem, data, room);
}

/* ---- device ------------------------------------------------------------------------------------------------------------------------------ */
nn_status nn_vk_pipelines_open(nn_vk_device *d, nni_error *err) {
  VkDescriptorSetLayoutBinding binding[NN_VK_NBUF + 2];
  uint32_t n = 0;
  for (int i = 0; i < d->nbuf; i++)
    binding[n++] = (VkDescriptorSetLayoutBinding){
        .binding = (uint32_t)i, .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .descriptorCount = 1, .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
  for (uint32_t i = NN_VK_PARAMS; i <= NN_VK_INFO; i++)
    binding[n++] = (VkDescriptorSetLayoutBinding){
        .binding = i, .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, .descriptorCount = 1, .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
  const VkDescriptorSetLayoutCreateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = n, .pBindings = binding};
  VkResult r = d->vk.vkCreateDescriptorSetLayout(d->handle, &set, NULL, &d->setlayout);
  if (r != VK_SUCCESS) return nn_vk_failed(d, r, "opening it", err);
  const VkPipelineLayoutCreateInfo layout = {
      .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &d->setlayout};
  r = d->vk.vkCreatePipelineLayout(d->handle, &layout, NULL, &d->layout);
  if (r != VK_SUCCESS) return nn_vk_failed(d, r, "opening it", err);
  size_t bytes;
  uint8_t *data = cache_read(d, &bytes);
  const VkPipelineCacheCreateInfo cache = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO, .initialDataSize = bytes, .pInitialData = data};
  r = d->vk.vkCreatePipelineCache(d->handle, &cache, NULL, &d->cache);
  nni_free(d->base.mem, data, bytes);
  return r == VK_SUCCESS ? NN_OK : nn_vk_failed(d, r, "opening it", err);
}

void nn_vk_pipelines_close(nn_vk_device *d) {
  if (d->cache) cache_write(d);
  for (int i = 0; i < NNI_COUNT(d->pipelines); i++)
    while (d->pipelines[i]) {
      nn_vk_pipeline *p = d->pipelines[i];
      d->pipelines[i] = p->next;
      drop(d, p);
    }
  d->vk.vkDestroyPipelineCache(d->handle, d->cache, NULL);
  d->vk.vkDestroyPipelineLayout(d->handle, d->layout, NULL);
  d->vk.vkDestroyDescriptorSetLayout(d->handle, d->setlayout, NULL);
}
