/* io/hdf5_module.c - the module nn_hdf5: archives to HDF5 images, and what both directions share.
**
** Loaded by archive.c on first use, one thread at a time inside. Calls nothing of libnn but the functions of nni_h5_host. It and hdf5_read_module.c
** are the only files that see HDF5.
** Invariants: H5dont_atexit is the first HDF5 call; HDF5's own error printing is off while we are inside; every return value is checked;
** nothing stays open after a call; HDF5 never writes to a file (it cannot recover from a write that fails): a file driver of our own hands
** everything to the host.
*/
#include "hdf5_inside.h"

#include <stdio.h>
#include <stdlib.h>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

#define ATTRS_IN_HEADER 64 /* so many attributes stay in the object header, whose checksum covers them */

/* ---- errors ---------------------------------------------------------------------------------------------------------------- */
static nn_status failv(nni_error *err, nn_status s, const char *fmt, va_list ap) {
  if (err) {
    err->status = s;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
  }
  return s;
}

nn_status nn_h5_fail(nni_error *err, nn_status s, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  failv(err, s, fmt, ap);
  va_end(ap);
  return s;
}

/* HDF5's innermost explanation: the first entry of an upward walk. */
static herr_t take_reason(unsigned n, const H5E_error2_t *e, void *ud) {
  const char **reason = ud;
  if (n == 0 && e->desc) *reason = e->desc;
  return 0;
}

nn_status nn_h5_fail_reason(nni_error *err, nn_status s, const char *before, const char *what) {
  const char *reason = "no reason given";
  char text[300];
  size_t i;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, &reason);
  snprintf(text, sizeof text, "%s", reason);
  for (i = 0; text[i]; i++)
    if ((unsigned char)text[i] < 32) text[i] = ' ';
  return nn_h5_fail(err, s, "%s%s: %s", before, what, text);
}

/* ---- entering and leaving ------------------------------------------------------------------------------------------------------ */
static bool started;

nn_status nn_h5_enter(quiet *q, nni_error *err) {
  unsigned major = 0, minor = 0, release = 0;
  if (!started) {
    H5dont_atexit(); /* fails when somebody said so before: fine */
    if (H5get_libversion(&major, &minor, &release) < 0) return nn_h5_fail(err, NN_EIO, "libhdf5 does not start");
    if (major != H5_VERS_MAJOR || minor != H5_VERS_MINOR || release != H5_VERS_RELEASE) /* any other call would abort the process */
      return nn_h5_fail(err, NN_EUNSUPPORTED, "libhdf5 is %u.%u.%u, but nn_hdf5 was built with " H5_VERS_INFO, major, minor, release);
    if (H5open() < 0) return nn_h5_fail(err, NN_EIO, "libhdf5 does not start");
    started = true;
  }
  if (H5Eget_auto2(H5E_DEFAULT, &q->fn, &q->data) < 0 || H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0)
    return nn_h5_fail(err, NN_EIO, "libhdf5 does not start");
  H5PLset_loading_state(0); /* no plug-ins, whatever the environment says */
  return NN_OK;
}

void nn_h5_leave(const quiet *q) {
  H5Eclear2(H5E_DEFAULT);
  H5Eset_auto2(H5E_DEFAULT, q->fn, q->data);
}

static int64_t count_objects(void) { return started ? (int64_t)H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) : 0; }

typedef struct writer {
  const nni_h5_host *host;
  nni_error *err;
  hid_t file, gcpl;
  bool elements; /* those of a data set are on their way */
} writer;

/* ---- the file driver ---------------------------------------------------------------------------------------------------------- */
/* What HDF5 writes goes to the host as it comes. Elements are raw data (H5FD_MEM_DRAW) that comes while we write a data set; large attributes are
** raw data too, but HDF5 reads those again. */
typedef struct host_file {
  H5FD_t base;
  const writer *w;
  haddr_t eoa, eof;
} host_file;

static H5FD_t *host_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr) {
  const writer *const *w = H5Pget_driver_info(fapl);
  host_file *f = w && (flags & H5F_ACC_CREAT) ? calloc(1, sizeof *f) : NULL;
  (void)name, (void)maxaddr;
  if (!f) return NULL;
  f->w = *w;
  return &f->base;
}

static herr_t host_close(H5FD_t *f) {
  free(f);
  return 0;
}

/* As the driver for files in memory, so that files get the layout they always had. */
static herr_t host_query(const H5FD_t *f, unsigned long *flags) {
  (void)f;
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

static haddr_t host_get_eoa(const H5FD_t *f, H5FD_mem_t type) {
  (void)type;
  return ((const host_file *)f)->eoa;
}

static herr_t host_set_eoa(H5FD_t *f, H5FD_mem_t type, haddr_t at) {
  (void)type;
  ((host_file *)f)->eoa = at;
  return 0;
}

static haddr_t host_get_eof(const H5FD_t *f, H5FD_mem_t type) {
  (void)type;
  return ((const host_file *)f)->eof;
}

static herr_t host_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t at, size_t n, void *to) {
  const host_file *f = (const host_file *)file;
  (void)dxpl;
  if ((f->w->elements && type == H5FD_MEM_DRAW) || at > (haddr_t)INT64_MAX - n) return -1; /* HDF5 has no reason to read elements again */
  f->w->host->get(f->w->host->ud, (int64_t)at, to, n);
  return 0;
}

static herr_t host_write(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t at, size_t n, const void *from) {
  host_file *f = (host_file *)file;
  const nni_h5_host *host = f->w->host;
  (void)dxpl;
  if (at > (haddr_t)INT64_MAX - n || !host->put(host->ud, (int64_t)at, from, n, f->w->elements && type == H5FD_MEM_DRAW)) return -1;
  if (at + n > f->eof) f->eof = at + n;
  return 0;
}

static herr_t host_truncate(H5FD_t *file, hid_t dxpl, hbool_t closing) {
  host_file *f = (host_file *)file;
  (void)dxpl, (void)closing;
  f->eof = f->eoa;
  return 0;
}

static const H5FD_class_t host_driver = {
#if H5_VERSION_GE(1, 13, 0)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)700, /* of those that the HDF Group leaves to anybody */
#endif
    .name = "nnlua",
    .maxaddr = (haddr_t)INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(const writer *),
    .open = host_open,
    .close = host_close,
    .query = host_query,
    .get_eoa = host_get_eoa,
    .set_eoa = host_set_eoa,
    .get_eof = host_get_eof,
    .read = host_read,
    .write = host_write,
    .truncate = host_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* ---- writing ------------------------------------------------------------------------------------------------------------------- */
static nn_status write_fail(const writer *w, const char *path, const char *what) {
  char before[NNI_ARCHIVE_MAXNAME + 20];
  snprintf(before, sizeof before, "%.250s: ", path);
  return nn_h5_fail_reason(w->err, NN_EIO, before, what);
}

static hid_t host_fapl(const writer *w) {
  static hid_t driver = -1;
  const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
  if (driver < 0) driver = H5FDregister(&host_driver);
  if (fapl >= 0 && driver >= 0 && H5Pset_driver(fapl, driver, &w) >= 0 && H5Pset_libver_bounds(fapl, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
      H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0)
    return fapl;
  if (fapl >= 0) H5Pclose(fapl);
  return -1;
}

/* The root, groups and data sets: no times (the same archive gives the same bytes), attributes in the header. */
static hid_t creation_plist(hid_t cls) {
  const hid_t p = H5Pcreate(cls);
  if (p >= 0 && H5Pset_attr_phase_change(p, ATTRS_IN_HEADER, ATTRS_IN_HEADER / 2) >= 0 && H5Pset_obj_track_times(p, 0) >= 0) return p;
  if (p >= 0) H5Pclose(p);
  return -1;
}

/* Make the groups that lead to path; `whole` also the last name. */
static nn_status make_groups(const writer *w, const char *path, bool whole) {
  char part[NNI_ARCHIVE_MAXPATH + 1];
  size_t n = 1;
  while (path[n]) {
    htri_t there;
    n += strcspn(path + n, "/");
    if (!path[n] && !whole) break;
    memcpy(part, path, n);
    part[n] = 0;
    if ((there = H5Lexists(w->file, part, H5P_DEFAULT)) < 0) return write_fail(w, part, "looking for it");
    if (!there) {
      const hid_t g = H5Gcreate2(w->file, part, H5P_DEFAULT, w->gcpl, H5P_DEFAULT);
      if (g < 0 || H5Gclose(g) < 0) return write_fail(w, part, "making a group");
    }
    if (path[n]) n++;
  }
  return NN_OK;
}

hid_t nn_h5_file_type(nn_dtype d) {
  switch (d) {
  case NN_BOOL:
  case NN_U8: return H5T_STD_U8LE;
  case NN_I32: return H5T_STD_I32LE;
  case NN_I64: return H5T_STD_I64LE;
  case NN_F32: return H5T_IEEE_F32LE;
  case NN_F64: return H5T_IEEE_F64LE;
  default: return -1;
  }
}

size_t nn_h5_element_size(nn_dtype d) {
  switch (d) {
  case NN_BOOL:
  case NN_U8: return 1;
  case NN_F16: return 2;
  case NN_I64:
  case NN_F64: return 8;
  default: return 4;
  }
}

/* Halve the first dims until a chunk is small enough. */
static bool set_layout(hid_t dcpl, const nni_array *d) {
  hsize_t chunk[NN_MAXDIM];
  size_t bytes = d->bytes;
  int i;
  if (d->ndim == 0 || d->bytes == 0) return H5Pset_layout(dcpl, H5D_COMPACT) >= 0;
  for (i = 0; i < d->ndim; i++) chunk[i] = (hsize_t)d->shape[i];
  for (i = 0; bytes > NNI_H5_PIECE && i < d->ndim;) {
    if (chunk[i] == 1) {
      i++;
      continue;
    }
    bytes = bytes / chunk[i];
    chunk[i] = (chunk[i] + 1) / 2;
    bytes *= chunk[i];
  }
  return H5Pset_chunk(dcpl, d->ndim, chunk) >= 0 && H5Pset_fletcher32(dcpl) >= 0;
}

static nn_status write_flag(const writer *w, hid_t object, const char *path) {
  static const char text[] = "bool";
  const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
  hid_t attr = -1;
  bool ok = type >= 0 && space >= 0 && H5Tset_size(type, sizeof text - 1) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 &&
            (attr = H5Acreate2(object, NNI_H5_DTYPE, type, space, H5P_DEFAULT, H5P_DEFAULT)) >= 0 && H5Awrite(attr, type, text) >= 0;
  const nn_status s = ok ? NN_OK : write_fail(w, path, "writing an attribute");
  if (attr >= 0) H5Aclose(attr);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  return s;
}

static nn_status write_dataset(writer *w, const nni_array *d) {
  hsize_t dims[NN_MAXDIM];
  const hid_t type = nn_h5_file_type(d->dtype), dcpl = creation_plist(H5P_DATASET_CREATE);
  hid_t space = -1, set = -1;
  nn_status s = make_groups(w, d->path, false);
  int i;
  w->elements = true;
  for (i = 0; i < d->ndim; i++) dims[i] = (hsize_t)d->shape[i];
  if (s == NN_OK) {
    space = d->ndim ? H5Screate_simple(d->ndim, dims, NULL) : H5Screate(H5S_SCALAR);
    if (space < 0 || dcpl < 0 || H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) < 0 || !set_layout(dcpl, d) ||
        (set = H5Dcreate2(w->file, d->path, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT)) < 0)
      s = write_fail(w, d->path, "making a data set");
    else if (d->bytes && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, d->data) < 0) s = write_fail(w, d->path, "writing elements");
    else if (d->dtype == NN_BOOL) s = write_flag(w, set, d->path);
  }
  if (set >= 0 && H5Dclose(set) < 0 && s == NN_OK) s = write_fail(w, d->path, "closing a data set");
  w->elements = false;
  if (space >= 0) H5Sclose(space);
  if (dcpl >= 0) H5Pclose(dcpl);
  return s;
}

/* The texts as one block of fields of the same length, padded with zeros. */
static char *pad_texts(const writer *w, const nn_attr *at, size_t *field) {
  size_t longest = 1;
  char *block;
  int i;
  for (i = 0; i < at->n; i++)
    if (strlen(at->texts[i]) > longest) longest = strlen(at->texts[i]);
  *field = longest;
  block = w->host->scratch(w->host->ud, longest * (size_t)at->n + 1);
  if (!block) return NULL;
  memset(block, 0, longest * (size_t)at->n + 1);
  for (i = 0; i < at->n; i++) memcpy(block + (size_t)i * longest, at->texts[i], strlen(at->texts[i]));
  return block;
}

static nn_status write_attr(const writer *w, const nn_attr *at) {
  const hsize_t n = (hsize_t)at->n;
  const void *data = at->kind == NN_ATTR_INT ? (const void *)&at->i : (const void *)&at->f;
  size_t field = 0;
  hid_t object = -1, type = -1, attr = -1;
  const hid_t space = at->kind == NN_ATTR_TEXTS ? H5Screate_simple(1, &n, NULL) : H5Screate(H5S_SCALAR);
  nn_status s = NN_OK;
  const bool text = at->kind == NN_ATTR_TEXT || at->kind == NN_ATTR_TEXTS;
  if (text && !(data = pad_texts(w, at, &field))) s = nn_h5_fail(w->err, NN_ENOMEM, "out of memory");
  if (s == NN_OK && at->path[1]) {
    const htri_t there = H5Lexists(w->file, at->path, H5P_DEFAULT); /* fails when a group on the way is missing */
    if (there <= 0) s = make_groups(w, at->path, true);
  }
  if (s == NN_OK) {
    type = H5Tcopy(text ? H5T_C_S1 : at->kind == NN_ATTR_INT ? H5T_STD_I64LE : H5T_IEEE_F64LE);
    if (type < 0 || space < 0 ||
        (text && (H5Tset_size(type, field) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) ||
        (object = H5Oopen(w->file, at->path, H5P_DEFAULT)) < 0 || (attr = H5Acreate2(object, at->name, type, space, H5P_DEFAULT, H5P_DEFAULT)) < 0 ||
        ((!text || at->n) && H5Awrite(attr, type, data) < 0))
      s = write_fail(w, at->path, "writing an attribute");
  }
  if (attr >= 0 && H5Aclose(attr) < 0 && s == NN_OK) s = write_fail(w, at->path, "closing an attribute");
  if (object >= 0) H5Oclose(object);
  if (type >= 0) H5Tclose(type);
  if (space >= 0) H5Sclose(space);
  return s;
}

static nn_status write_items(writer *w, const nni_archive *a) {
  const bool never = false, *stop = w->host->stop ? w->host->stop : &never;
  nn_status s = NN_OK;
  int i;
  for (i = 0; i < a->narrays && s == NN_OK && !*stop; i++) s = write_dataset(w, &a->arrays[i]);
  for (i = 0; i < a->nattrs && s == NN_OK && !*stop; i++) s = write_attr(w, &a->attrs[i]);
  return s;
}

/* The length of the file is the end-of-file address in its superblock (bytes 28 to 35 of version 3). */
static nn_status take_size(const nni_h5_host *host, int64_t *size, nni_error *err) {
  unsigned char head[36];
  host->get(host->ud, 0, head, sizeof head);
  if (head[8] != 3 || head[9] != 8) return nn_h5_fail(err, NN_EINTERNAL, "libhdf5 made a file of another format than asked for");
  memcpy(size, head + 28, sizeof *size);
  return *size < 48 ? nn_h5_fail(err, NN_EINTERNAL, "libhdf5 made a file without an end") : NN_OK;
}

static nn_status write_archive(const nni_archive *a, const nni_h5_host *host, int64_t *size, nni_error *err) {
  static unsigned serial; /* a file that HDF5 could not close for want of memory keeps its name */
  char name[64];
  writer w = {.host = host, .err = err, .file = -1, .gcpl = -1};
  hid_t fapl, fcpl;
  quiet q;
  nn_status s = nn_h5_enter(&q, err);
  if (s != NN_OK) return s;
  fapl = host_fapl(&w);
  fcpl = creation_plist(H5P_FILE_CREATE);
  w.gcpl = creation_plist(H5P_GROUP_CREATE);
  snprintf(name, sizeof name, "/dev/null/nnlua-image-%u", ++serial); /* names nothing: our driver opens no file */
  if (fapl < 0 || fcpl < 0 || w.gcpl < 0 || (w.file = H5Fcreate(name, H5F_ACC_TRUNC, fcpl, fapl)) < 0)
    s = nn_h5_fail_reason(err, NN_EIO, "", "making an HDF5 file");
  if (s == NN_OK) s = write_items(&w, a);
  if (w.file >= 0 && H5Fclose(w.file) < 0 && s == NN_OK) s = nn_h5_fail_reason(err, NN_EIO, "", "closing an HDF5 file");
  if (s == NN_OK) s = take_size(host, size, err);
  if (w.gcpl >= 0) H5Pclose(w.gcpl);
  if (fcpl >= 0) H5Pclose(fcpl);
  if (fapl >= 0) H5Pclose(fapl);
  nn_h5_leave(&q);
  return s;
}

/* ---- the table -------------------------------------------------------------------------------------------------------------------- */
__attribute__((visibility("default"))) extern const nni_h5_module_table nni_h5_module;
const nni_h5_module_table nni_h5_module = {NNI_H5_ABI, write_archive, nn_h5_read_archive, nn_h5_read_foreign, count_objects};
