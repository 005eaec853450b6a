/* vulkan/vk_device.h - the inside of a device: blocks of memory, batches of commands, pipelines. Included by vk_*.c and vulkan.c only.
*/
#ifndef NN_VK_DEVICE_H
#define NN_VK_DEVICE_H
#define VK_NO_PROTOTYPES
#include <volk.h>
#include "vk.h"
#include "coopmat.h"
#include "shaders.h"

/* ---- process-wide (vk_loader.c): one loader and one instance, made on first use and kept, as a shared library is -------------------------- */
#define NN_VK_MAXDEV 16
typedef struct nn_vk_physical {
  VkPhysicalDevice handle;
  nn_device_info info;
} nn_vk_physical;
typedef struct nn_vk_loader {
  VkInstance instance;
  const char *why; /* there is no device */
  int n;
  nn_vk_physical dev[NN_VK_MAXDEV];
} nn_vk_loader;
/* Without a loader or a driver n is 0, and `why` says what is missing. */
const nn_vk_loader *nn_vk_load(void);
bool nn_vk_has_extension(VkPhysicalDevice p, const char *name);

/* ---- memory (vk_memory.c) ------------------------------------------------------------------------------------------------------------------ */
/* Where memory lies: the device's own; the device's own that the host writes to as well (Info and Params, which every kernel begins by reading); the host's, for
** uploads and for downloads. All but the first are mapped. */
typedef enum nn_vk_place { NN_VK_DEVICE_LOCAL, NN_VK_NEAR, NN_VK_TO_DEVICE, NN_VK_FROM_DEVICE } nn_vk_place;
typedef struct nn_vk_gap {
  uint64_t offset, size;
} nn_vk_gap;
/* One VkBuffer with memory of its own. Its number is never used again, so an address never comes back with other memory behind it. */
typedef struct nn_vk_block {
  VkBuffer buffer;
  VkDeviceMemory memory;
  uint64_t size;
  uint32_t number;
  char *map; /* host-visible places */
  nn_vk_place place;
  bool small;     /* for small buffers */
  nn_vk_gap *gap; /* free ranges by offset; room for ngap + nlive is always there, so giving back cannot fail */
  int ngap, cap, nlive;
  struct nn_vk_block *next;
} nn_vk_block;

/* ---- stream (vk_stream.c) ------------------------------------------------------------------------------------------------------------------ */
typedef struct nn_vk_span {
  uintptr_t lo, hi;
} nn_vk_span;
#define NN_VK_NSPAN 128
/* Params of dispatches: numbers param .. param + n of the run's parameters, and where they lie */
typedef struct nn_vk_slice {
  int param, n;
  nn_vk_param *at;
  VkBuffer buffer;
  uint64_t offset;
} nn_vk_slice;
typedef struct nn_vk_fault {
  nn_vk_say say;
  int unit;
  uint32_t *words;
  int nia;
  int64_t ia[NN_VK_FAULT_IA];
} nn_vk_fault;
typedef struct nn_vk_host {
  void *address;
  char *map;
  VkBuffer buffer;
  uint64_t offset, bytes;
} nn_vk_host; /* of nn_vk_memory_get; buffer + offset is its start */
/* A command buffer and all that it needs: descriptor sets, Info and Params blocks, staging. Recorded once; submitted once (the stream's loose
** batches) or again and again (variants of a plan's record). */
typedef struct nn_vk_batch {
  VkCommandPool pool;
  VkCommandBuffer cmd;   /* cmds[icmd], which is recorded into */
  VkCommandBuffer *cmds; /* a long batch is several, submitted one by one */
  int icmd, ncmd, capcmd;
  uint64_t ops;          /* estimate of what cmd holds */
  bool open, again, tohost; /* is being recorded; will be submitted more than once; the host reads what it wrote */
  uint64_t value;    /* of the timeline when its last submission is done; 0: never submitted */
  VkDescriptorPool *sets;
  int nsets, capsets, set, inset; /* pools; the one in use, and how many sets it gave */
  nn_vk_host *host;               /* mapped memory: Info, Params, staging; the last one is filled up to `filled` */
  int nhost, caphost;
  uint64_t filled, staged;
  nn_vk_slice *slice;
  int nslice, capslice;
  nn_vk_fault *fault;
  int nfault, capfault;
  bool checked; /* its fault words have been looked at since the last submission */
  int commands;
  nn_vk_span reads[NN_VK_NSPAN], writes[NN_VK_NSPAN]; /* since the last barrier */
  int nread, nwrite;
} nn_vk_batch;

#define NN_VK_NVARIANT 4 /* two sets of addresses in turn, three runs under way */
typedef struct nn_vk_variant {
  nn_vk_batch *batch;
  void **address; /* that it was recorded for; NULL: for none */
  int naddress, nparam;
  uint64_t used;
} nn_vk_variant;
typedef struct nn_vk_record {
  nn_vk_variant variant[NN_VK_NVARIANT];
  uint64_t runs; /* of the plan so far; a variant's `used` is the last that it served */
  struct nn_vk_record *next, **prev;
} nn_vk_record;

#define NN_VK_NLOOSE 4
#define NN_VK_INFLIGHT 3
#define NN_VK_NWATCH (NN_VK_INFLIGHT * 2 + 2)

struct nn_vk_device {
  nni_device base;
  const nn_vk_loader *loader;
  VkPhysicalDevice physical;
  VkDevice handle;
  struct VolkDeviceTable vk;
  VkQueue queue;
  uint32_t family;
  VkPhysicalDeviceProperties props;
  VkPhysicalDeviceMemoryProperties memtypes;
  int nbuf; /* storage buffers per dispatch */
  uint64_t budget; /* operations of a dispatch */
  uint64_t range_align, uniform_align, max_alloc;
  uint32_t floats; /* NN_VK_EMIT_*: what it can promise about f32 */
  bool lost, barriers, replay;
  uint32_t subgroup;
  uint32_t lanes; /* see nn_vk_lanes */
  nn_vk_coopform coopmat; /* the form of the extension that is enabled */
  /* memory */
  nn_vk_block **block; /* by number; NULL where one was given back */
  uint32_t nblock, capblock;
  nn_vk_block *blocks;      /* the oldest first */
  uint64_t reserved, limit; /* bytes of device-local blocks; what they may reach */
  nn_memory_info stats;
  /* stream */
  VkSemaphore timeline;
  uint64_t value, reached;          /* last submitted, and known to be reached */
  uint64_t flying[NN_VK_INFLIGHT];  /* values of the last submissions */
  nn_vk_batch *watch[NN_VK_NWATCH]; /* submitted, with fault words that nobody has looked at, in order */
  int nwatch;
  nn_vk_batch *loose[NN_VK_NLOOSE];
  int iloose;
  nn_vk_batch *target;      /* what is recorded into between begin and end; NULL: the loose batch */
  nn_vk_variant *recording; /* the variant that target belongs to, or NULL */
  const nni_param *param;   /* of the run that is being recorded */
  int nparam;
  nni_error fault; /* first failure that a run reported, until somebody waits; */
  int faulty;      /* and the unit it is of */
  nn_vk_record *records;
  VkQueryPool marks; /* times of the last run that was profiled */
  int nmarks;        /* room in it */
  uint64_t clock;    /* bits of a time that count; 0: no clock */
  /* pipelines */
  VkDescriptorSetLayout setlayout;
  VkPipelineLayout layout;
  VkPipelineCache cache;
  nn_vk_pipeline *pipelines[256]; /* hash chains */
  nn_vk_counts counts;
};

/* memory */
void nn_vk_memory_open(nn_vk_device *d);
void nn_vk_memory_close(nn_vk_device *d);
void *nn_vk_buffer_get(nni_device *d, size_t bytes);
void nn_vk_buffer_put(nni_device *d, void *p, size_t bytes);
nn_memory_info nn_vk_memory(nni_device *d);
void nn_vk_trim(nni_device *d);
void *nn_vk_memory_get(nn_vk_device *d, nn_vk_place place, size_t bytes); /* an address, 256-byte aligned; NULL: no memory */
void nn_vk_memory_put(nn_vk_device *d, void *p, size_t bytes);            /* host-visible: no submitted command may use it any more */
/* The block behind an address, and the offset in it. NULL: no address of this device. */
nn_vk_block *nn_vk_find(const nn_vk_device *d, const void *p, uint64_t *offset);
static inline uintptr_t nn_vk_address(const nn_vk_block *b, uint64_t offset) { return ((uintptr_t)b->number + 1) << 40 | offset; }

/* stream */
nn_status nn_vk_stream_open(nn_vk_device *d, nni_error *err);
void nn_vk_stream_close(nn_vk_device *d);
nn_vk_batch *nn_vk_batch_new(nn_vk_device *d);
void nn_vk_batch_free(nn_vk_device *d, nn_vk_batch *b);                                  /* waits for it */
nn_status nn_vk_batch_open(nn_vk_device *d, nn_vk_batch *b, bool again, nni_error *err); /* emptied (waits for it) and ready to be recorded into */
nn_status nn_vk_loose(nn_vk_device *d, nn_vk_batch **out, nni_error *err);
nn_status nn_vk_submit(nn_vk_device *d, nn_vk_batch *run, nni_error *err); /* what is loose, then run (NULL: none) */
nn_status nn_vk_wait(nn_vk_device *d, uint64_t value, nni_error *err);
nn_status nn_vk_reported(nn_vk_device *d, nni_error *err);   /* the first fault since somebody asked */
void nn_vk_look(nn_vk_device *d, nn_vk_batch *b);            /* faults of a batch that has ended */
bool nn_vk_ended(nn_vk_device *d, uint64_t value);
nn_status nn_vk_batch_close(nn_vk_device *d, nn_vk_batch *b, nni_error *err);
nn_status nn_vk_failed(nn_vk_device *d, VkResult r, const char *doing, nni_error *err); /* error of a Vulkan call; a lost device stays lost */
nn_status nn_vk_finish(nni_device *d, nni_error *err);
nn_status nn_vk_current(nn_vk_device *d, nn_vk_batch **out, nni_error *err); /* what is recorded into now */
void nn_vk_settle(nn_vk_device *d, nn_vk_batch *b);                          /* a full barrier */
/* Before a command that uses spans s[0..n), the ones with their bit set in `writes` to write: a barrier if it has to wait for an earlier command. */
void nn_vk_order(nn_vk_device *d, nn_vk_batch *b, const nn_vk_span *s, int n, uint64_t writes);
/* Before a command of so many operations: a batch of long work goes on in another command buffer. */
nn_status nn_vk_make_way(nn_vk_device *d, nn_vk_batch *b, uint64_t ops, nni_error *err);
/* A piece of mapped memory that the batch keeps until it is emptied. */
typedef struct nn_vk_piece { char *map; VkBuffer buffer; uint64_t offset; void *address; } nn_vk_piece;
bool nn_vk_host_take(nn_vk_device *d, nn_vk_batch *b, uint64_t bytes, uint64_t align, nn_vk_piece *out);
/* Room for one more in a growing array of the batch. */
bool nn_vk_room(nn_vk_device *d, void **p, int n, int *cap, size_t each);
#define NN_VK_ROOM(d, b, array, n, cap) nn_vk_room(d, (void **)&(b)->array, (b)->n, &(b)->cap, sizeof *(b)->array)

/* dispatches (vk_dispatch.c) */
void nn_vk_refill(const nn_vk_batch *b, const nni_param *p); /* Params of a batch that will be submitted again */

/* transfers (vk_transfer.c) */
nn_status nn_vk_upload(nni_device *d, void *dst, const void *src, size_t bytes, nni_error *err);
nn_status nn_vk_download(nni_device *d, void *dst, const void *src, size_t bytes, nni_error *err);

/* times (vk_marks.c) */
nn_status nn_vk_mark(nni_device *d, int i, int n, nni_error *err);
nn_status nn_vk_marked(nni_device *d, int n, double *seconds, nni_error *err);
void nn_vk_marks_close(nn_vk_device *d);

/* records (vk_record.c) */
nn_status nn_vk_begin(nni_device *d, const nni_submission *s, bool *replay);
nn_status nn_vk_end(nni_device *d, bool failed, nni_error *err);
void nn_vk_recorded_free(nni_device *d, void *recorded);

/* pipelines (vk_pipeline.c) */
nn_status nn_vk_pipelines_open(nn_vk_device *d, nni_error *err);
void nn_vk_pipelines_close(nn_vk_device *d);
VkPipeline nn_vk_pipeline_handle(const nn_vk_pipeline *p);

/* row programs (vk_program.c) */
void *nn_vk_program_new(nni_device *d, const nni_program *p);
void nn_vk_program_free(nni_device *d, void *prog);
size_t nn_vk_program_scratch(nni_device *d, const void *prog);
nn_status nn_vk_program_run(const void *prog, const nni_kernel_call *c);

/* vk_coopmat.c */
typedef struct nn_vk_coopmat_features { /* VkPhysicalDeviceCooperativeMatrixFeaturesKHR, and NV's, which has the same members */
  VkStructureType sType;
  void *pNext;
  VkBool32 cooperative, robust;
} nn_vk_coopmat_features;
/* Which extension to enable (sets d->coopmat, fills the feature structure), NULL: none. */
const char *nn_vk_coopmat_choose(nn_vk_device *d, bool off, bool validated, nn_vk_coopmat_features *want);

/* vk_device.c */
void nn_vk_close(nni_device *d);

/* vulkan.c */
extern const nni_backend nn_vk_backend;

#endif
