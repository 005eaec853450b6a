/* io/hdf5_module.c - the module nn_hdf5: archives to HDF5 images and back. The only file that sees HDF5.
**
** Loaded by archive.c on first use, one thread at a time inside. Calls nothing of libnn but the functions of nni_h5_host.
** Invariants: H5dont_atexit is the first HDF5 call; HDF5's own error printing is off while we are inside; every return value is checked;
** nothing stays open after a call; HDF5 never writes to a file (it cannot recover from a write that fails), only to memory of the host's,
** which is sized beforehand so that it does not have to grow.
*/
#define H5_USE_110_API
#include <hdf5.h>

#include "hdf5_module.h"

#include <stdio.h>

#define CHUNK_BYTES ((size_t)1 << 20)
#define IMAGE_STEP ((size_t)1 << 16)
#define ATTRS_IN_HEADER 64 /* so many attributes stay in the object header, whose checksum covers them */

/* ---- errors ---------------------------------------------------------------------------------------------------------------- */
static nn_status failv(nni_error *err, nn_status s, const char *fmt, va_list ap) {
  if (err) {
    err->status = s;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
  }
  return s;
}

static NNI_PRINTF(3, 4) nn_status fail(nni_error *err, nn_status s, const char *fmt, ...) {
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

/* Call at once after the HDF5 call that failed: later calls clear its error stack. */
static nn_status fail_h5(nni_error *err, nn_status s, const char *before, const char *what) {
  const char *reason = "no reason given";
  char text[300];
  size_t i;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, &reason);
  snprintf(text, sizeof text, "%s", reason);
  for (i = 0; text[i]; i++)
    if ((unsigned char)text[i] < 32) text[i] = ' ';
  return fail(err, s, "%s%s: %s", before, what, text);
}

/* ---- entering and leaving ------------------------------------------------------------------------------------------------------ */
typedef struct quiet {
  H5E_auto2_t fn;
  void *data;
} quiet;

static bool started;

static nn_status enter(quiet *q, nni_error *err) {
  unsigned major = 0, minor = 0, release = 0;
  if (!started) {
    H5dont_atexit(); /* fails when somebody said so before: fine */
    if (H5get_libversion(&major, &minor, &release) < 0) return fail(err, NN_EIO, "libhdf5 does not start");
    if (major != H5_VERS_MAJOR || minor != H5_VERS_MINOR || release != H5_VERS_RELEASE) /* any other call would abort the process */
      return fail(err, NN_EUNSUPPORTED, "libhdf5 is %u.%u.%u, but nn_hdf5 was built with " H5_VERS_INFO, major, minor, release);
    if (H5open() < 0) return fail(err, NN_EIO, "libhdf5 does not start");
    started = true;
  }
  if (H5Eget_auto2(H5E_DEFAULT, &q->fn, &q->data) < 0 || H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0)
    return fail(err, NN_EIO, "libhdf5 does not start");
  H5PLset_loading_state(0); /* no plug-ins, whatever the environment says */
  return NN_OK;
}

static void leave(const quiet *q) {
  H5Eclear2(H5E_DEFAULT);
  H5Eset_auto2(H5E_DEFAULT, q->fn, q->data);
}

static int64_t count_objects(void) { return started ? (int64_t)H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) : 0; }

/* ---- writing -------------------------------------------------------------------------------------------------------------------- */
typedef struct writer {
  const nni_h5_host *host;
  nni_error *err;
  hid_t file, gcpl;
} writer;

static void *image_resize(void *p, size_t n, H5FD_file_image_op_t op, void *ud) {
  const nni_h5_host *host = ud;
  (void)p, (void)op;
  return host->image(host->ud, n);
}
static void *image_alloc(size_t n, H5FD_file_image_op_t op, void *ud) { return image_resize(NULL, n, op, ud); }
static void *image_copy(void *to, const void *from, size_t n, H5FD_file_image_op_t op, void *ud) {
  (void)op, (void)ud;
  return memcpy(to, from, n);
}
static herr_t image_free(void *p, H5FD_file_image_op_t op, void *ud) { /* the host keeps it: that is how we get the file */
  (void)p, (void)op, (void)ud;
  return 0;
}
static void *share_ud(void *ud) { return ud; }
static herr_t drop_ud(void *ud) {
  (void)ud;
  return 0;
}

static nn_status write_fail(const writer *w, const char *path, const char *what) {
  char before[NNI_ARCHIVE_MAXNAME + 20];
  snprintf(before, sizeof before, "%.250s: ", path);
  return fail_h5(w->err, NN_EIO, before, what);
}

static hid_t image_fapl(const nni_h5_host *host) {
  H5FD_file_image_callbacks_t cb = {image_alloc, image_copy, image_resize, image_free, share_ud, drop_ud, NULL};
  const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
  cb.udata = (void *)(uintptr_t)host;
  if (fapl >= 0 && H5Pset_fapl_core(fapl, IMAGE_STEP, 0) >= 0 && H5Pset_libver_bounds(fapl, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
      H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0 && H5Pset_file_image_callbacks(fapl, &cb) >= 0)
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

static hid_t file_type(nn_dtype d) {
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

static size_t element_size(nn_dtype d) {
  switch (d) {
  case NN_BOOL:
  case NN_U8: return 1;
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
  for (i = 0; bytes > CHUNK_BYTES && i < d->ndim;) {
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

static nn_status write_dataset(const writer *w, const nni_array *d) {
  hsize_t dims[NN_MAXDIM];
  const hid_t type = file_type(d->dtype), dcpl = creation_plist(H5P_DATASET_CREATE);
  hid_t space = -1, set = -1;
  nn_status s = make_groups(w, d->path, false);
  int i;
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
  if (text && !(data = pad_texts(w, at, &field))) s = fail(w->err, NN_ENOMEM, "out of memory");
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

static nn_status write_items(const writer *w, const nni_archive *a) {
  nn_status s = NN_OK;
  int i;
  for (i = 0; i < a->narrays && s == NN_OK; i++) s = write_dataset(w, &a->arrays[i]);
  for (i = 0; i < a->nattrs && s == NN_OK; i++) s = write_attr(w, &a->attrs[i]);
  return s;
}

/* The length of the file is the end-of-file address in its superblock (bytes 28 to 35 of version 3). */
static nn_status take_size(const nni_h5_host *host, size_t capacity, size_t *size, nni_error *err) {
  const unsigned char *image = host->image(host->ud, capacity);
  uint64_t end = 0;
  if (!image || image[8] != 3 || image[9] != 8) return fail(err, NN_EINTERNAL, "libhdf5 made a file of another format than asked for");
  memcpy(&end, image + 28, sizeof end);
  if (end < 48 || end == UINT64_MAX) return fail(err, NN_EINTERNAL, "libhdf5 made a file without an end");
  *size = (size_t)end;
  return NN_OK;
}

static nn_status write_archive(const nni_archive *a, const nni_h5_host *host, size_t guess, size_t *size, nni_error *err) {
  static unsigned serial; /* a file that HDF5 could not close for want of memory keeps its name */
  char name[64];
  writer w = {.host = host, .err = err, .file = -1, .gcpl = -1};
  hid_t fapl, fcpl;
  quiet q;
  nn_status s = enter(&q, err);
  if (s != NN_OK) return s;
  fapl = image_fapl(host);
  fcpl = creation_plist(H5P_FILE_CREATE);
  w.gcpl = creation_plist(H5P_GROUP_CREATE);
  snprintf(name, sizeof name, "/dev/null/nnlua-image-%u", ++serial); /* names nothing: the core driver has no backing store */
  if (fapl < 0 || fcpl < 0 || w.gcpl < 0 || (w.file = H5Fcreate(name, H5F_ACC_TRUNC, fcpl, fapl)) < 0)
    s = fail_h5(err, NN_EIO, "", "making an HDF5 image");
  if (s == NN_OK) s = write_items(&w, a);
  if (w.file >= 0 && H5Fclose(w.file) < 0 && s == NN_OK) s = fail_h5(err, NN_EIO, "", "closing an HDF5 image");
  if (s == NN_OK) s = take_size(host, guess, size, err);
  if (w.gcpl >= 0) H5Pclose(w.gcpl);
  if (fcpl >= 0) H5Pclose(fcpl);
  if (fapl >= 0) H5Pclose(fapl);
  leave(&q);
  return s;
}

/* ---- reading ---------------------------------------------------------------------------------------------------------------------- */
typedef struct reader {
  const nni_h5_host *host;
  nni_error *err;
  const char *file_name;
  int64_t file_size; /* nothing in the file can be longer */
  int objects, depth;
  char path[NNI_ARCHIVE_MAXPATH + 2];
  size_t len;  /* of path; 1 is the root "/" */
  bool failed; /* err is filled */
} reader;

static NNI_PRINTF(2, 3) herr_t read_fail(reader *r, const char *fmt, ...) {
  char why[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, sizeof why, fmt, ap);
  va_end(ap);
  if (!r->failed) fail(r->err, NN_EFORMAT, "%.400s: not a file of ours or damaged: %.250s: %s", r->file_name, r->path, why);
  r->failed = true;
  return -1;
}

/* What HDF5 itself found wrong. */
static herr_t read_fail_h5(reader *r, const char *what) {
  char before[700];
  snprintf(before, sizeof before, "%.400s: not an HDF5 file or damaged: %.250s: ", r->file_name, r->path);
  if (!r->failed) fail_h5(r->err, NN_EFORMAT, before, what);
  r->failed = true;
  return -1;
}

/* The host refused and filled the slot with its reason: put the file's name in front. */
static herr_t read_fail_host(reader *r) {
  char why[sizeof r->err->text];
  if (!r->failed && r->err) {
    memcpy(why, r->err->text, sizeof why);
    fail(r->err, r->err->status, "%.400s: %.500s", r->file_name, why);
  }
  r->failed = true;
  return -1;
}

static bool equal_types(hid_t a, hid_t b) { return H5Tequal(a, b) > 0; }

static herr_t read_texts(reader *r, hid_t attr, hid_t type, nn_attr *at, hssize_t n) {
  const size_t field = H5Tget_size(type);
  const char **texts;
  char *block;
  hssize_t i;
  if (H5Tis_variable_str(type) != 0) return read_fail(r, "the attribute '%s' has a text of variable length", at->name);
  if (field == 0 || n < 0 || n > NNI_ARCHIVE_MAXITEMS || (int64_t)field > r->file_size / (n ? n : 1))
    return read_fail(r, "the attribute '%s' has an impossible size", at->name);
  block = r->host->scratch(r->host->ud, field * (size_t)n + 1);
  texts = r->host->scratch(r->host->ud, ((size_t)n + 1) * sizeof *texts);
  if (!block || !texts) {
    fail(r->err, NN_ENOMEM, "out of memory");
    return read_fail_host(r);
  }
  if (n && H5Aread(attr, type, block) < 0) return read_fail_h5(r, "reading an attribute");
  for (i = 0; i < n; i++) {
    const char *from = block + (size_t)i * field;
    const size_t len = strnlen(from, field);
    char *text = r->host->scratch(r->host->ud, len + 1);
    if (!text) {
      fail(r->err, NN_ENOMEM, "out of memory");
      return read_fail_host(r);
    }
    memcpy(text, from, len);
    text[len] = 0;
    texts[i] = text;
  }
  at->n = (int)n;
  at->texts = texts;
  return 0;
}

static herr_t read_attr_value(reader *r, hid_t attr, hid_t type, hid_t space, nn_attr *at) {
  const H5S_class_t form = H5Sget_simple_extent_type(space);
  const bool list = form == H5S_SIMPLE && H5Sget_simple_extent_ndims(space) == 1;
  if (form != H5S_SCALAR && !list) return read_fail(r, "the attribute '%s' is neither one value nor a list", at->name);
  if (H5Tget_class(type) == H5T_STRING) {
    at->kind = list ? NN_ATTR_TEXTS : NN_ATTR_TEXT;
    return read_texts(r, attr, type, at, list ? H5Sget_simple_extent_npoints(space) : 1);
  }
  if (!list && equal_types(type, H5T_STD_I64LE)) {
    at->kind = NN_ATTR_INT;
    return H5Aread(attr, type, &at->i) < 0 ? read_fail_h5(r, "reading an attribute") : 0;
  }
  if (!list && equal_types(type, H5T_IEEE_F64LE)) {
    at->kind = NN_ATTR_FLOAT;
    return H5Aread(attr, type, &at->f) < 0 ? read_fail_h5(r, "reading an attribute") : 0;
  }
  return read_fail(r, "the attribute '%s' has a type that is not supported", at->name);
}

static herr_t visit_attr(hid_t object, const char *name, const H5A_info_t *info, void *ud) {
  reader *r = ud;
  nn_attr at;
  hid_t attr, type = -1, space = -1;
  herr_t rc;
  memset(&at, 0, sizeof at);
  if (++r->objects > NNI_ARCHIVE_MAXITEMS) return read_fail(r, "too many objects");
  if (info->data_size > (hsize_t)r->file_size) return read_fail(r, "the attribute '%.255s' has an impossible size", name);
  if (strcmp(name, NNI_H5_DTYPE) == 0) return 0; /* see is_bool */
  at.path = r->path;
  at.name = name;
  if ((attr = H5Aopen(object, name, H5P_DEFAULT)) < 0) return read_fail_h5(r, "opening an attribute");
  if ((type = H5Aget_type(attr)) < 0 || (space = H5Aget_space(attr)) < 0) rc = read_fail_h5(r, "opening an attribute");
  else rc = read_attr_value(r, attr, type, space, &at);
  if (rc == 0 && !r->host->attr(r->host->ud, &at)) rc = read_fail_host(r);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  H5Aclose(attr);
  return rc;
}

/* A u8 data set with the attribute nnlua_dtype = "bool". 1 yes, 0 no, -1 failed. */
static int is_bool(reader *r, hid_t set) {
  char text[8] = "";
  const htri_t there = H5Aexists(set, NNI_H5_DTYPE);
  hid_t attr, type = -1;
  bool good;
  if (there < 0) return read_fail_h5(r, "looking for an attribute");
  if (!there) return 0;
  if ((attr = H5Aopen(set, NNI_H5_DTYPE, H5P_DEFAULT)) < 0) return read_fail_h5(r, "opening an attribute");
  type = H5Aget_type(attr);
  good = type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && H5Tget_size(type) == 4 && H5Aget_storage_size(attr) == 4 &&
         H5Aread(attr, type, text) >= 0 && strcmp(text, "bool") == 0;
  if (type >= 0) H5Tclose(type);
  H5Aclose(attr);
  return good ? 1 : read_fail(r, "the attribute '" NNI_H5_DTYPE "' is not supported");
}

/* Only the two layouts of our profile: chunks with fletcher32, or within the header. */
static bool layout_is_ours(hid_t dcpl) {
  unsigned flags = 0;
  size_t nvalues = 0;
  const H5D_layout_t layout = H5Pget_layout(dcpl);
  const int nfilters = H5Pget_nfilters(dcpl);
  if (H5Pget_external_count(dcpl) != 0) return false;
  if (layout == H5D_COMPACT) return nfilters == 0;
  return layout == H5D_CHUNKED && nfilters == 1 && H5Pget_filter2(dcpl, 0, &flags, &nvalues, NULL, 0, NULL, NULL) == H5Z_FILTER_FLETCHER32;
}

static herr_t read_shape(reader *r, hid_t space, nni_array *d) {
  hsize_t dims[NN_MAXDIM];
  const H5S_class_t form = H5Sget_simple_extent_type(space);
  int i;
  d->ndim = 0;
  d->bytes = element_size(d->dtype);
  if (form == H5S_SCALAR) return 0;
  if (form != H5S_SIMPLE) return read_fail(r, "a data set without a shape");
  d->ndim = H5Sget_simple_extent_ndims(space);
  if (d->ndim < 0 || d->ndim > NN_MAXDIM) return read_fail(r, "%d dims, at most %d are possible", d->ndim, NN_MAXDIM);
  if (H5Sget_simple_extent_dims(space, dims, NULL) < 0) return read_fail_h5(r, "reading a shape");
  for (i = 0; i < d->ndim; i++) {
    if (dims[i] > (hsize_t)INT64_MAX || __builtin_mul_overflow(d->bytes, (size_t)dims[i], &d->bytes)) return read_fail(r, "an impossible shape");
    d->shape[i] = (int64_t)dims[i];
  }
  return d->bytes > (size_t)r->file_size ? read_fail(r, "claims more elements than the file holds") : 0;
}

static herr_t read_elements(reader *r, hid_t set, hid_t type, hid_t space, hid_t dcpl) {
  nni_array d;
  void *to;
  int flag;
  memset(&d, 0, sizeof d);
  d.path = r->path;
  if (!layout_is_ours(dcpl)) return read_fail(r, "a data set that is not stored as nnlua stores them");
  for (d.dtype = (nn_dtype)0; d.dtype < NN_NDTYPE; d.dtype++)
    if (file_type(d.dtype) >= 0 && equal_types(type, file_type(d.dtype))) break;
  if (d.dtype == NN_NDTYPE) return read_fail(r, "a data set of a type that is not supported");
  if ((flag = is_bool(r, set)) < 0) return -1;
  if (flag && element_size(d.dtype) != 1) return read_fail(r, "a data set of a type that is not supported");
  if (element_size(d.dtype) == 1) d.dtype = flag ? NN_BOOL : NN_U8;
  if (read_shape(r, space, &d) < 0) return -1;
  if (d.bytes && H5Dget_storage_size(set) < d.bytes) return read_fail(r, "claims more elements than the file holds");
  if (!(to = r->host->dataset(r->host->ud, &d))) return read_fail_host(r);
  if (d.bytes && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0) return read_fail_h5(r, "reading elements");
  return 0;
}

static herr_t visit_dataset(reader *r, hid_t set) {
  const hid_t type = H5Dget_type(set), space = H5Dget_space(set), dcpl = H5Dget_create_plist(set);
  herr_t rc;
  if (type < 0 || space < 0 || dcpl < 0) rc = read_fail_h5(r, "opening a data set");
  else rc = read_elements(r, set, type, space, dcpl);
  if (dcpl >= 0) H5Pclose(dcpl);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  return rc;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *link, void *ud);

static herr_t visit_object(reader *r, hid_t object) {
  H5O_info_t info;
  herr_t rc;
  if (H5Oget_info(object, &info) < 0) return read_fail_h5(r, "looking at it");
  if (info.rc != 1) return read_fail(r, "an object with several links");
  if (info.type != H5O_TYPE_GROUP && info.type != H5O_TYPE_DATASET) return read_fail(r, "neither a group nor a data set");
  rc = H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attr, r);
  if (rc < 0) return read_fail_h5(r, "listing attributes");
  if (info.type == H5O_TYPE_DATASET) return visit_dataset(r, object);
  rc = H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, r);
  return rc < 0 ? read_fail_h5(r, "listing a group") : 0;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *link, void *ud) {
  reader *r = ud;
  const size_t len = r->len, n = strlen(name);
  hid_t object;
  herr_t rc;
  if (link->type != H5L_TYPE_HARD) return read_fail(r, "a link that is not a hard link");
  if (++r->objects > NNI_ARCHIVE_MAXITEMS) return read_fail(r, "too many objects");
  if (r->depth >= NNI_ARCHIVE_MAXDEPTH) return read_fail(r, "groups too deep");
  if (n == 0 || n > NNI_ARCHIVE_MAXNAME || len + n + 1 > NNI_ARCHIVE_MAXPATH) return read_fail(r, "a name too long");
  r->len = len + (size_t)snprintf(r->path + len, sizeof r->path - len, "%s%s", len == 1 ? "" : "/", name);
  r->depth++;
  object = H5Oopen(group, name, H5P_DEFAULT);
  rc = object < 0 ? read_fail_h5(r, "opening it") : visit_object(r, object);
  if (object >= 0) H5Oclose(object);
  r->depth--;
  r->len = len;
  r->path[len] = 0;
  return rc;
}

static nn_status read_archive(const char *path, int64_t file_size, const nni_h5_host *host, nni_error *err) {
  reader r = {.host = host, .err = err, .file_name = path, .file_size = file_size, .path = "/", .len = 1};
  hid_t fapl, file = -1, root = -1;
  quiet q;
  nn_status s = enter(&q, err);
  if (s != NN_OK) return s;
  fapl = H5Pcreate(H5P_FILE_ACCESS);
  if (fapl < 0 || H5Pset_fapl_sec2(fapl) < 0 || H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0) read_fail_h5(&r, "opening");
#if H5_VERSION_GE(1, 10, 7)
  else if (H5Pset_file_locking(fapl, 0, 1) < 0) read_fail_h5(&r, "opening"); /* files are replaced, never changed: no locks needed */
#endif
  else if ((file = H5Fopen(path, H5F_ACC_RDONLY, fapl)) < 0 || (root = H5Oopen(file, "/", H5P_DEFAULT)) < 0) read_fail_h5(&r, "opening");
  else visit_object(&r, root);
  if (root >= 0) H5Oclose(root);
  if (file >= 0 && H5Fclose(file) < 0) read_fail_h5(&r, "closing");
  if (fapl >= 0) H5Pclose(fapl);
  leave(&q);
  if (!r.failed) return NN_OK;
  return err && err->status != NN_OK ? err->status : NN_EFORMAT;
}

__attribute__((visibility("default"))) extern const nni_h5_module_table nni_h5_module;
const nni_h5_module_table nni_h5_module = {NNI_H5_ABI, write_archive, read_archive, count_objects};
