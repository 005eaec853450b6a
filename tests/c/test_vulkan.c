/* test_vulkan.c - the core of vulkan/: devices, memory, stream, records, faults; and the kernels of k_copy.c against the CPU's.
**
** Runs in three modes that must agree (default, a barrier after every dispatch, no replay); ctest runs it under validation as well.
*/
#include "vk_check.h"
#include "vulkan/vk_device.h"
#include <dirent.h>
#include <unistd.h>

/* ---- memory ------------------------------------------------------------------------------------------------------------------------------- */
static void check_memory(void) {
  enum { N = 200 };
  void *p[N] = {0};
  size_t size[N] = {0}, live = 0;
  for (int round = 0; round < 2000; round++) {
    const int i = (int)(draw() % N);
    if (p[i]) {
      dev->is->buffer_put(dev, p[i], size[i]);
      live -= size[i] ? (size[i] + 255) / 256 * 256 : 256;
      p[i] = NULL;
      continue;
    }
    size[i] = draw() % 8 == 0 ? draw() % 3000000 : draw() % 5000;
    p[i] = dev->is->buffer_get(dev, size[i]);
    CHECK(p[i], "no memory");
    live += size[i] ? (size[i] + 255) / 256 * 256 : 256;
    for (int k = 0; k < N; k++)
      if (k != i && p[k]) CHECK((char *)p[k] + size[k] <= (char *)p[i] || (char *)p[i] + size[i] <= (char *)p[k], "buffers overlap");
  }
  nn_memory_info m = dev->is->memory(dev);
  CHECK(m.live == live && m.peak >= live && m.allocated >= m.peak, "live %zu, not %zu", m.live, live);
  for (int i = 0; i < N; i++)
    if (p[i]) dev->is->buffer_put(dev, p[i], size[i]);
  CHECK(dev->is->memory(dev).live == 0 && dev->is->memory(dev).cached > 0, "after all was given back");
  void *a = dev->is->buffer_get(dev, 1000), *b = dev->is->buffer_get(dev, 1000);
  dev->is->buffer_put(dev, a, 1000);
  void *c = dev->is->buffer_get(dev, 1000);
  CHECK(a == c, "a loop does not get the same address again");
  dev->is->buffer_put(dev, b, 1000);
  dev->is->buffer_put(dev, c, 1000);
  dev->is->trim(dev);
  CHECK(dev->is->memory(dev).cached == 0, "trim leaves %zu", dev->is->memory(dev).cached);
}

/* ---- transfers ---------------------------------------------------------------------------------------------------------------------------- */
static void check_transfers(void) {
  static const size_t sizes[] = {0, 1, 3, 4, 100, 65537, 5000001, 70000001}; /* the last in several pieces */
  for (int i = 0; i < NNI_COUNT(sizes); i++) {
    const size_t n = sizes[i];
    unsigned char *src = malloc(n + 1), *dst = calloc(1, n + 1);
    for (size_t k = 0; k < n; k++) src[k] = (unsigned char)(k * 7 ^ k >> 11 ^ draw() % 2);
    char *p = dev->is->buffer_get(dev, n + 8);
    MUST(dev->is->upload(dev, p, src, n, &err));
    MUST(dev->is->upload(dev, p + n, "x", 1, &err));
    if (n >= 4) MUST(dev->is->upload(dev, p + 1, src + 1, 2, &err));
    MUST(dev->is->download(dev, dst, p, n, &err));
    CHECK(memcmp(src, dst, n) == 0, "%zu bytes do not come back", n);
    dev->is->buffer_put(dev, p, n + 8);
    free(src);
    free(dst);
  }
  uint32_t w[256], *p = dev->is->buffer_get(dev, sizeof w);
  MUST(nn_vk_fill(nn_vk_of(dev), p, sizeof w, 7, &err));
  MUST(nn_vk_fill(nn_vk_of(dev), p + 100, 40, 9, &err));
  MUST(nn_vk_copy_bytes(nn_vk_of(dev), p, p + 100, 40, &err));
  MUST(dev->is->download(dev, w, p, sizeof w, &err));
  for (int i = 0; i < 256; i++) CHECK(w[i] == (i < 10 || (i >= 100 && i < 110) ? 9u : 7u), "word %d is %u", i, w[i]);
  dev->is->buffer_put(dev, p, sizeof w);
  CHECK(dev->is->upload(dev, (void *)(uintptr_t)12345, w, 4, &err) != NN_OK, "an address of nobody");
}

/* ---- arithmetic of the host ------------------------------------------------------------------------------------------------------------------ */
static void check_division(void) {
  static const uint32_t edge[] = {0, 1, 2, 3, 5, 7, 255, 256, 641, 65535, 65536, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff};
  for (int i = 1; i < 3000; i++) {
    const uint32_t d = i < NNI_COUNT(edge) ? edge[i] : draw() << (draw() % 2) >> (draw() % 31) | 1;
    const nn_vk_div v = nn_vk_divisor(d);
    for (int k = 0; k < 40; k++) {
      const uint32_t x = k < NNI_COUNT(edge) ? edge[k] : draw() * 2 + (draw() & 1), h = (uint32_t)((uint64_t)x * v.mul >> 32);
      CHECK((h + ((x - h) >> (v.shift & 255))) >> (v.shift >> 8) == x / d, "%u / %u", x, d);
    }
  }
  for (uint64_t n = 1; n < (uint64_t)1 << 45; n = n * 3 + 1) {
    uint32_t g[3];
    nn_vk_grid(nn_vk_of(dev), n, g);
    const uint64_t all = (uint64_t)g[0] * g[1] * g[2];
    CHECK(all >= n && all - n <= n / 1000 + 70000, "grid of %llu is %llu", (unsigned long long)n, (unsigned long long)all);
  }
}

/* ---- copies ---------------------------------------------------------------------------------------------------------------------------------- */
static const nn_dtype dtypes[] = {NN_BOOL, NN_U8, NN_I32, NN_I64, NN_F16, NN_BF16, NN_F32};

static void check_copy_dtypes(void) {
  for (int s = 0; s < NNI_COUNT(dtypes); s++)
    for (int t = 0; t < NNI_COUNT(dtypes); t++) {
      arr *in = arr_new(dtypes[s], 2, (int64_t[]){7, 41}, (int64_t[]){83, 2}, 3), *out = arr_new(dtypes[t], 2, (int64_t[]){7, 41}, NULL, 5);
      arr_fill(in);
      check_kernel(KERNEL(copy), &in, 1, &out, 1, NULL, NULL, 0, 0);
      arr_free(in);
      arr_free(out);
    }
}

static void check_copy_extremes(void) {
  static const float x[] = {0,       -0.0f,    1.5f,   -1.5f,   255.9f,         256,           -1,  2147483648.0f, -2147483648.0f, 3e9f,  -3e9f,
                            9.3e18f, -9.3e18f, 1e30f,  -1e30f,  INFINITY,       -INFINITY,     NAN, 65504,         65519,          65520, 6.1e-5f,
                            5.9e-8f, 2.9e-8f,  1e-40f, -1e-40f, 1.00048828125f, 1.00146484375f};
  for (int t = 0; t < NNI_COUNT(dtypes); t++) {
    arr *in = arr_new(NN_F32, 1, (int64_t[]){NNI_COUNT(x)}, NULL, 0), *out = arr_new(dtypes[t], 1, (int64_t[]){NNI_COUNT(x)}, NULL, 0);
    memcpy(in->memory, x, sizeof x);
    check_kernel(KERNEL(copy), &in, 1, &out, 1, NULL, NULL, 0, 0);
    arr_free(in);
    arr_free(out);
  }
}

static void check_copy_shapes(void) {
  static const struct {
    int ndim;
    int64_t shape[NN_MAXDIM], stride[NN_MAXDIM];
  } c[] = {{0, {0}, {0}},
           {1, {1}, {7}},
           {1, {0}, {1}},
           {1, {300}, {-1}},
           {1, {513}, {0}},
           {2, {30, 20}, {1, 30}},
           {2, {30, 20}, {-1, 31}},
           {3, {4, 5, 6}, {1, 24, 4}},
           {3, {4, 1, 6}, {6, 99, 1}},
           {8, {2, 3, 2, 1, 3, 2, 2, 3}, {1, 2, 6, 5, 12, 36, 72, 144}},
           {8, {2, 2, 2, 2, 2, 2, 2, 2}, {-1, 2, -4, 8, -16, 32, -64, 128}},
           {3, {5, 0, 2}, {1, 1, 1}},
           {4, {3, 2, 4, 5}, {0, 20, 5, 1}}};
  for (int i = 0; i < NNI_COUNT(c); i++)
    for (int k = 0; k < 3; k++) {
      arr *in = arr_new(k == 1 ? NN_U8 : NN_F32, c[i].ndim, c[i].shape, c[i].stride, k),
          *out = arr_new(k == 2 ? NN_I64 : in->host.dtype, c[i].ndim, c[i].shape, NULL, 2 * k);
      arr_fill(in);
      check_kernel(KERNEL(copy), &in, 1, &out, 1, NULL, NULL, 0, 0);
      arr_free(in);
      arr_free(out);
    }
}

static void check_slices(void) {
  static const nn_dtype types[] = {NN_F32, NN_F16, NN_BF16, NN_I32, NN_I64, NN_U8};
  for (int t = 0; t < NNI_COUNT(types); t++)
    for (int inplace = 0; inplace < 2; inplace++) {
      const int64_t shape[] = {9, 10}, part[] = {3, 4}, ia[] = {12, 20, 2};
      arr *x = arr_new(types[t], 2, shape, NULL, 1), *v = arr_new(types[t], 2, part, (int64_t[]){1, 3}, 0),
          *out = inplace ? x : arr_new(types[t], 2, shape, NULL, 3);
      arr_fill(x);
      arr_fill(v);
      check_kernel(KERNEL(slice_set), (arr *[]){x, v}, 2, &out, 1, ia, NULL, 0, 0);
      if (types[t] != NN_U8) check_kernel(KERNEL(slice_add), (arr *[]){x, v}, 2, &out, 1, ia, NULL, 0, 0);
      if (!inplace) arr_free(out);
      arr_free(x);
      arr_free(v);
    }
}

static void check_concat(void) {
  for (int64_t dim = 0; dim < 3; dim++) {
    int64_t shape[] = {3, 4, 5}, whole[] = {3, 4, 5};
    arr *in[3], *out;
    whole[dim] = 0;
    for (int i = 0; i < 3; i++) {
      shape[dim] = i == 1 ? 0 : 2 + i;
      whole[dim] += shape[dim];
      in[i] = arr_new(NN_I64, 3, shape, i == 2 ? (int64_t[]){1, 50, 7} : NULL, i);
      arr_fill(in[i]);
    }
    out = arr_new(NN_I64, 3, whole, NULL, 1);
    check_kernel(KERNEL(concat), in, 3, &out, 1, &dim, NULL, 0, 0);
    for (int i = 0; i < 3; i++) arr_free(in[i]);
    arr_free(out);
  }
}

/* ---- failures that a kernel finds ----------------------------------------------------------------------------------------------------------- */
static void check_faults(void) {
  static const nn_dtype types[] = {NN_I64, NN_I32, NN_U8};
  const int64_t classes = 10, n = 700;
  for (int t = 0; t < NNI_COUNT(types); t++)
    for (int bad = 0; bad < 4; bad++) {
      arr *ids = arr_new(types[t], 1, &n, NULL, 3), *out = arr_new(NN_I64, 1, &n, NULL, 1);
      for (int64_t i = 0; i < n; i++) nn_element_write(types[t], (char *)ids->host.data + i * (int64_t)nn_dtype_size(types[t]), 0, draw() % 10);
      for (int i = 0; i < bad; i++) /* the first of them is reported, whoever sees one first */
        nn_element_write(types[t], (char *)ids->host.data + (draw() % n) * (int64_t)nn_dtype_size(types[t]), 0,
                         t < 2 && i == 1 ? -7 : 10 + (int64_t)(draw() % 200));
      check_kernel(KERNEL(check_ids), &ids, 1, &out, 1, &classes, NULL, 0, 0);
      arr_free(ids);
      arr_free(out);
    }
  MUST(dev->is->finish(dev, &err)); /* told once, then over */
}

/* ---- records ---------------------------------------------------------------------------------------------------------------------------------- */
/* Runs of one plan in flight one behind the other, over buffers that change and parameters that differ: y[i] = x[i] * run. */
static void check_records(void) {
  enum { N = 1000, RUNS = 40, SETS = 4 };
  float x[N], y[N];
  void *prog = scale_program(N), *record = NULL, *in[SETS], *out[RUNS];
  const bool may = getenv("NNLUA_VK_NO_REPLAY") == NULL;
  int replays = 0;
  CHECK(prog, "no program");
  if (!prog) return;
  for (int i = 0; i < N; i++) x[i] = (float)i;
  for (int i = 0; i < SETS; i++) {
    in[i] = dev->is->buffer_get(dev, sizeof x);
    MUST(dev->is->upload(dev, in[i], x, sizeof x, &err));
  }
  for (int i = 0; i < RUNS; i++) out[i] = i < SETS ? dev->is->buffer_get(dev, sizeof x) : out[i % SETS];
  for (int run = 0; run < RUNS; run++) {
    const int set = run < 20 ? run % 2 : run % SETS; /* two sets of addresses fit into a record, four do not */
    const nni_operand a = {.data = in[set]}, b = {.data = out[set]};
    void *const address[] = {a.data, b.data};
    const nni_param pa[] = {{.f = -1}, {.f = run}, {.f = -2}};
    const nni_submission s = {.recorded = &record, .address = address, .naddress = 2, .param = pa, .nparam = 3, .err = &err};
    const nni_kernel_call c = {.dev = dev, .in = &a, .out = &b, .nin = 1, .nout = 1, .pa = pa, .err = &err};
    bool replay;
    MUST(dev->is->begin(dev, &s, &replay));
    CHECK(may || !replay, "replayed");
    replays += replay;
    if (!replay) MUST(dev->is->program_run(prog, &c));
    MUST(dev->is->end(dev, false, &err));
    if (run % 3 == 2) continue; /* leave some in flight */
    MUST(dev->is->download(dev, y, out[set], sizeof y, &err));
    for (int i = 0; i < N; i++) CHECK(y[i] == (float)i * (float)run, "run %d: y[%d] is %g", run, i, (double)y[i]);
  }
  CHECK(!may || replays >= 14, "%d replays", replays);
  { /* a run that fails leaves a record that serves nobody */
    const nni_operand a = {.data = in[0]}, b = {.data = (char *)out[0] + 8};
    void *const address[] = {a.data, b.data};
    const nni_param pa[3] = {{0}};
    const nni_submission s = {.recorded = &record, .address = address, .naddress = 2, .param = pa, .nparam = 3, .err = &err};
    for (int turn = 0; turn < 2; turn++) {
      bool replay;
      (void)b;
      MUST(dev->is->begin(dev, &s, &replay));
      CHECK(!replay, "what failed is replayed");
      MUST(dev->is->end(dev, true, &err));
    }
  }
  dev->is->recorded_free(dev, record);
  dev->is->program_free(dev, prog);
  for (int i = 0; i < SETS; i++) {
    dev->is->buffer_put(dev, in[i], sizeof x);
    dev->is->buffer_put(dev, out[i], sizeof x);
  }
}

/* ---- limits, and what is on disk ------------------------------------------------------------------------------------------------------------------ */
static void check_limits(void) {
  CHECK(nn_vk_embedded_bytes() > 10000 && nn_vk_embedded_bytes() <= 2u << 20, "%zu bytes of embedded shaders", nn_vk_embedded_bytes());
  nni_device *small;
  setenv("NNLUA_VK_MEMORY", "48", 1);
  nn_status st = nn_vk_open(mem, 0, &small, &err);
  unsetenv("NNLUA_VK_MEMORY");
  CHECK(st == NN_OK, "%s", err.text);
  if (st == NN_OK) {
    void *a = small->is->buffer_get(small, 100), *b = small->is->buffer_get(small, 12 << 20), *c = small->is->buffer_get(small, 34 << 20);
    CHECK(a && b && !c, "48 MiB: a block of 3 for small buffers, 12 and then no more");
    CHECK(!small->is->buffer_get(small, (size_t)1 << 60), "an absurd size");
    if (a) small->is->buffer_put(small, a, 100);
    c = small->is->buffer_get(small, 34 << 20); /* what nobody uses is dropped for it */
    CHECK(c, "34 MiB after the small block was given back");
    if (c) small->is->buffer_put(small, c, 34 << 20);
    if (b) small->is->buffer_put(small, b, 12 << 20);
    CHECK(small->is->memory(small).live == 0, "live");
    small->is->close(small);
  }
  nni_device *none = dev;
  CHECK(nn_vk_open(mem, 99, &none, &err) == NN_ENOTFOUND && !none && strstr(err.text, "vulkan:100"), "%s", err.text);
  nn_device_info info;
  CHECK(nn_vk_describe(mem, 0, &info, &err) == NN_OK && info.title[0] && info.driver[0] && info.memory > 0 && info.subgroup > 0,
        "nothing known about the device");
  CHECK(nn_vk_describe(mem, -1, &info, &err) == NN_ENOTFOUND, "device 0");
  const nni_operand big = {.dtype = NN_U8, .ndim = 2, .shape = (int64_t[]){1 << 20, 1 << 12}};
  CHECK(nn_vk_fits(nn_vk_of(dev), &big, &err) == NN_EUNSUPPORTED && strstr(err.text, "2^32"), "%s", err.text);
}

/* The name of the one file in dir/nnlua, or "" */
static void cache_file(const char *dir, char *path, size_t n) {
  char sub[256];
  snprintf(sub, sizeof sub, "%s/nnlua", dir);
  DIR *d = opendir(sub);
  path[0] = 0;
  for (struct dirent *e; d && (e = readdir(d));)
    if (e->d_name[0] != '.') {
      CHECK(!path[0], "two files in the cache: %s", e->d_name);
      snprintf(path, n, "%s/%s", sub, e->d_name);
    }
  if (d) closedir(d);
}
static size_t slurp(const char *path, char *to, size_t n) {
  FILE *f = fopen(path, "rb");
  const size_t got = f ? fread(to, 1, n, f) : 0;
  if (f) fclose(f);
  return got;
}

/* The file of compiled pipelines appears, is taken, and is replaced when it is damaged, cut or longer. */
static void check_cache(void) {
  char dir[] = "/tmp/nnlua-vk-XXXXXX", path[512] = "", good[1 << 16], now[1 << 16];
  const char *old = getenv("XDG_CACHE_HOME");
  char *kept = old ? strdup(old) : NULL;
  size_t n = 0;
  CHECK(mkdtemp(dir), "no directory");
  setenv("XDG_CACHE_HOME", dir, 1);
  for (int turn = 0; turn < 4; turn++) {
    nni_device *d;
    const uint32_t spec[] = {NN_F32, NN_I32, 1};
    if (turn > 0) {
      FILE *f = fopen(path, turn == 1 ? "r+b" : turn == 2 ? "ab" : "wb");
      CHECK(f, "%s", path);
      if (!f) break;
      if (turn == 1) fseek(f, (long)n - 3, SEEK_SET), fputc(good[n - 3] ^ 1, f);
      if (turn == 2) fputc(0, f);
      if (turn == 3) fwrite(good, 1, n / 2, f);
      fclose(f);
    }
    MUST(nn_vk_open(mem, 0, &d, &err));
    CHECK(nn_vk_shader(nn_vk_of(d), 0, spec, 2, &err), "%s", err.text);
    d->is->close(d);
    if (turn == 0) cache_file(dir, path, sizeof path), n = slurp(path, good, sizeof good);
    const size_t m = slurp(path, now, sizeof now);
    CHECK(n > 48 && m == n && memcmp(good, now, n) == 0, "turn %d: %zu bytes in %s", turn, m, path);
  }
  unlink(path);
  snprintf(path, sizeof path, "%s/nnlua", dir);
  CHECK(rmdir(path) == 0, "something is left in %s", path);
  snprintf(path, sizeof path, "rm -rf '%s'", dir); /* Mesa keeps its own there */
  CHECK(system(path) == 0, "%s", path);
  if (kept) setenv("XDG_CACHE_HOME", kept, 1);
  else unsetenv("XDG_CACHE_HOME");
  free(kept);
}

/* Hundreds of uploads, runs and downloads take no memory beyond what the first ones took. */
static void check_footprint(void) {
  enum { N = 3000 };
  void *prog = scale_program(N), *record = NULL, *in = dev->is->buffer_get(dev, N * 4), *out = dev->is->buffer_get(dev, N * 4);
  float x[N] = {0}, y[N];
  uint32_t blocks = 0;
  nn_vk_counts c50 = {0}, c250 = {0};
  for (int run = 0; run < 300; run++) {
    const nni_operand a = {.data = in}, b = {.data = out};
    void *const address[] = {in, out};
    const nni_param pa[] = {{0}, {.f = 2}, {0}};
    const nni_submission s = {.recorded = run % 4 ? &record : NULL, .address = address, .naddress = 2, .param = pa, .nparam = 3, .err = &err};
    const nni_kernel_call c = {.dev = dev, .in = &a, .out = &b, .nin = 1, .nout = 1, .pa = pa, .err = &err};
    bool replay;
    x[run] = (float)run;
    MUST(dev->is->upload(dev, in, x, sizeof x, &err));
    MUST(dev->is->begin(dev, &s, &replay));
    if (!replay) MUST(dev->is->program_run(prog, &c));
    MUST(dev->is->end(dev, false, &err));
    if (run % 8 == 7) MUST(dev->is->download(dev, y, out, sizeof y, &err));
    if (run % 8 == 7) CHECK(y[run] == 2 * x[run], "run %d", run);
    if (run == 50) blocks = nn_vk_of(dev)->nblock, c50 = nn_vk_counted(dev);
    if (run == 250) c250 = nn_vk_counted(dev);
  }
  const bool may = getenv("NNLUA_VK_NO_REPLAY") == NULL;
  CHECK(c250.submissions - c50.submissions == 225 && c250.uploads - c50.uploads == 200 && c250.downloads - c50.downloads == 25,
        "200 runs and 25 downloads: %llu submissions", (unsigned long long)(c250.submissions - c50.submissions));
  const uint64_t again = c250.recorded - c50.recorded, replayed = c250.replayed - c50.replayed; /* a plan's second and third record come when its runs overlap */
  CHECK(again + replayed == 200 && (may ? again >= 50 && again < 50 + NN_VK_NVARIANT : again == 200) && c250.pipelines == c50.pipelines,
        "runs are recorded that were before");
  CHECK(nn_vk_of(dev)->nblock == blocks, "%u blocks, then %u", blocks, nn_vk_of(dev)->nblock);
  dev->is->recorded_free(dev, record);
  dev->is->program_free(dev, prog);
  dev->is->buffer_put(dev, in, N * 4);
  dev->is->buffer_put(dev, out, N * 4);
}

static void all(void) {
  check_memory();
  check_transfers();
  check_division();
  check_copy_dtypes();
  check_copy_extremes();
  check_copy_shapes();
  check_slices();
  check_concat();
  check_faults();
  check_records();
  check_footprint();
  check_limits();
  check_cache();
}

int main(void) { return vk_check_main("test_vulkan", all); }
