/* io/hdf5_read_module.c - HDF5 files to archives; a part of the module nn_hdf5 and of the program nn_h5_reader.
**
** Own files must keep our profile to the letter (archive.h). Of foreign ones (reader.foreign) it takes what an archive can say and leaves out
** attributes of other types; what reaches into other files, or claims more than the file can hold, is refused. The invariants are
** hdf5_module.c's.
*/
#include "hdf5_inside.h"

#include <stdio.h>

typedef struct reader {
  const nni_h5_host *host;
  nni_error *err;
  const char *file_name;
  int64_t file_size; /* nothing in the file can be longer */
  int objects, depth;
  char path[NNI_ARCHIVE_MAXPATH + 2];
  size_t len;  /* of path; 1 is the root "/" */
  bool failed; /* err is filled */
  bool foreign;
} reader;

static NNI_PRINTF(2, 3) herr_t read_fail(reader *r, const char *fmt, ...) {
  char why[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, sizeof why, fmt, ap);
  va_end(ap);
  if (!r->failed && r->foreign) nn_h5_fail(r->err, NN_EFORMAT, "%.400s: refused: %.250s: %s", r->file_name, r->path, why);
  else if (!r->failed) nn_h5_fail(r->err, NN_EFORMAT, "%.400s: not a file of ours or damaged: %.250s: %s", r->file_name, r->path, why);
  r->failed = true;
  return -1;
}

/* What HDF5 itself found wrong. */
static herr_t read_fail_h5(reader *r, const char *what) {
  char before[700];
  snprintf(before, sizeof before, "%.400s: not an HDF5 file or damaged: %.250s: ", r->file_name, r->path);
  if (!r->failed) nn_h5_fail_reason(r->err, NN_EFORMAT, before, what);
  r->failed = true;
  return -1;
}

/* The host refused and filled the slot with its reason: put the file's name in front. */
static herr_t read_fail_host(reader *r) {
  char why[sizeof r->err->text];
  if (!r->failed && r->err) {
    memcpy(why, r->err->text, sizeof why);
    nn_h5_fail(r->err, r->err->status, "%.400s: %.500s", r->file_name, why);
  }
  r->failed = true;
  return -1;
}

static bool equal_types(hid_t a, hid_t b) { return H5Tequal(a, b) > 0; }

/* A copy of a text that ends at len or at its first zero byte. */
static const char *keep_text(reader *r, const char *from, size_t len) {
  char *text;
  len = strnlen(from, len);
  if (!(text = r->host->scratch(r->host->ud, len + 1))) {
    nn_h5_fail(r->err, NN_ENOMEM, "out of memory");
    read_fail_host(r);
    return NULL;
  }
  memcpy(text, from, len);
  text[len] = 0;
  return text;
}

static herr_t keep_texts(reader *r, const char *block, size_t field, bool pointers, hssize_t n, const char **texts) {
  hssize_t i;
  for (i = 0; i < n; i++) {
    const char *from = pointers ? ((char *const *)block)[i] : block + (size_t)i * field;
    if (!(texts[i] = keep_text(r, from ? from : "", pointers ? (size_t)r->file_size : field))) return -1;
  }
  return 0;
}

static herr_t read_texts(reader *r, hid_t attr, hid_t type, hid_t space, nn_attr *at, hssize_t n) {
  const htri_t varying = H5Tis_variable_str(type);
  const size_t field = varying > 0 ? sizeof(char *) : H5Tget_size(type);
  const char **texts;
  char *block;
  herr_t rc;
  if (varying < 0) return read_fail_h5(r, "looking at a text");
  if (varying && !r->foreign) return read_fail(r, "the attribute '%s' has a text of variable length", at->name);
  if (field == 0 || n < 0 || n > NNI_ARCHIVE_MAXITEMS || (int64_t)field > r->file_size / (n ? n : 1))
    return read_fail(r, "the attribute '%s' has an impossible size", at->name);
  block = r->host->scratch(r->host->ud, field * (size_t)n + 1);
  texts = r->host->scratch(r->host->ud, ((size_t)n + 1) * sizeof *texts);
  if (!block || !texts) {
    nn_h5_fail(r->err, NN_ENOMEM, "out of memory");
    return read_fail_host(r);
  }
  if (n && H5Aread(attr, type, block) < 0) return read_fail_h5(r, "reading an attribute");
  rc = keep_texts(r, block, field, varying > 0, n, texts);
  if (varying && n) H5Dvlen_reclaim(type, space, H5P_DEFAULT, block);
  at->n = (int)n;
  at->texts = texts;
  return rc;
}

/* The numbers that other programs write, as ours: 1 when `at` was set, 0 for what an archive cannot say. An empty list of numbers is
** what h5py makes of an empty list of texts. */
static herr_t read_foreign_number(reader *r, hid_t attr, hid_t type, hid_t space, bool list, nn_attr *at) {
  const H5T_class_t form = H5Tget_class(type);
  if (list && H5Sget_simple_extent_npoints(space) == 0) {
    at->kind = NN_ATTR_TEXTS;
    return 1;
  }
  if (list || (form != H5T_INTEGER && form != H5T_FLOAT) || H5Tget_size(type) > 8) return 0;
  at->kind = form == H5T_INTEGER ? NN_ATTR_INT : NN_ATTR_FLOAT;
  if ((form == H5T_INTEGER ? H5Aread(attr, H5T_NATIVE_INT64, &at->i) : H5Aread(attr, H5T_NATIVE_DOUBLE, &at->f)) < 0)
    return read_fail_h5(r, "reading an attribute");
  return 1;
}

/* 1 when `at` holds it, 0 to leave it out, -1 failed. */
static herr_t read_attr_value(reader *r, hid_t attr, hid_t type, hid_t space, nn_attr *at) {
  const H5S_class_t form = H5Sget_simple_extent_type(space);
  const bool list = form == H5S_SIMPLE && H5Sget_simple_extent_ndims(space) == 1;
  if (form != H5S_SCALAR && !list) return r->foreign ? 0 : read_fail(r, "the attribute '%s' is neither one value nor a list", at->name);
  if (H5Tget_class(type) == H5T_STRING) {
    at->kind = list ? NN_ATTR_TEXTS : NN_ATTR_TEXT;
    return read_texts(r, attr, type, space, at, list ? H5Sget_simple_extent_npoints(space) : 1) < 0 ? -1 : 1;
  }
  if (r->foreign) return read_foreign_number(r, attr, type, space, list, at);
  if (!list && equal_types(type, H5T_STD_I64LE)) {
    at->kind = NN_ATTR_INT;
    return H5Aread(attr, type, &at->i) < 0 ? read_fail_h5(r, "reading an attribute") : 1;
  }
  if (!list && equal_types(type, H5T_IEEE_F64LE)) {
    at->kind = NN_ATTR_FLOAT;
    return H5Aread(attr, type, &at->f) < 0 ? read_fail_h5(r, "reading an attribute") : 1;
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
  if (rc > 0 && !r->host->attr(r->host->ud, &at)) rc = read_fail_host(r);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  H5Aclose(attr);
  return rc < 0 ? rc : 0;
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
  d->bytes = nn_h5_element_size(d->dtype);
  if (form == H5S_SCALAR) return 0;
  if (form != H5S_SIMPLE) return read_fail(r, "a data set without a shape");
  d->ndim = H5Sget_simple_extent_ndims(space);
  if (d->ndim < 0 || d->ndim > NN_MAXDIM) return read_fail(r, "%d dims, at most %d are possible", d->ndim, NN_MAXDIM);
  if (H5Sget_simple_extent_dims(space, dims, NULL) < 0) return read_fail_h5(r, "reading a shape");
  for (i = 0; i < d->ndim; i++) {
    if (dims[i] > (hsize_t)INT64_MAX || __builtin_mul_overflow(d->bytes, (size_t)dims[i], &d->bytes)) return read_fail(r, "an impossible shape");
    d->shape[i] = (int64_t)dims[i];
  }
  return !r->foreign && d->bytes > (size_t)r->file_size ? read_fail(r, "claims more elements than the file holds") : 0;
}

/* Stored in the file itself, behind no filters but HDF5's own three; *packed: the elements may take less room than they have bytes. */
static herr_t check_foreign_layout(reader *r, hid_t dcpl, bool *packed) {
  unsigned flags = 0;
  size_t nvalues;
  const H5D_layout_t layout = H5Pget_layout(dcpl);
  const int nfilters = H5Pget_nfilters(dcpl);
  int i;
  *packed = false;
  if (H5Pget_external_count(dcpl) != 0) return read_fail(r, "a data set whose elements lie in another file");
  if (layout != H5D_COMPACT && layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED) return read_fail(r, "a virtual data set, made of other files");
  for (i = 0; i < nfilters; i++) {
    H5Z_filter_t filter;
    nvalues = 0;
    filter = H5Pget_filter2(dcpl, (unsigned)i, &flags, &nvalues, NULL, 0, NULL, NULL);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32)
      return read_fail(r, "a data set behind the filter %d; deflate, shuffle and fletcher32 are read", (int)filter);
    *packed = *packed || filter == H5Z_FILTER_DEFLATE;
  }
  return nfilters < 0 ? read_fail_h5(r, "listing filters") : 0;
}

/* IEEE binary16, in the byte order of the machine; -1 on failure. */
static hid_t half_type(void) {
  const hid_t t = H5Tcopy(H5T_IEEE_F32LE);
  if (t >= 0 && H5Tset_fields(t, 15, 10, 5, 0, 10) >= 0 && H5Tset_size(t, 2) >= 0 && H5Tset_ebias(t, 15) >= 0) return t;
  if (t >= 0) H5Tclose(t);
  return -1;
}

/* What elements of a foreign type become, and the type to read them as (to be closed): numbers of our types unchanged, others in the next
** larger; h5py's truth values (an enumeration FALSE, TRUE of one byte). -1: none. */
static hid_t foreign_type(hid_t type, nn_dtype *d) {
  const H5T_class_t form = H5Tget_class(type);
  const size_t size = H5Tget_size(type);
  if (form == H5T_ENUM && size == 1 && H5Tget_nmembers(type) == 2) {
    *d = NN_BOOL;
    return H5Tcopy(type);
  }
  if (form == H5T_FLOAT && size <= 8) {
    *d = size == 2 ? NN_F16 : size == 8 ? NN_F64 : NN_F32;
    return size == 2 ? half_type() : H5Tcopy(size == 8 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE);
  }
  if (form == H5T_INTEGER && size <= 8) {
    const bool sign = H5Tget_sign(type) != H5T_SGN_NONE;
    *d = size == 1 && !sign ? NN_U8 : size <= 2 || (size == 4 && sign) ? NN_I32 : NN_I64;
    return H5Tcopy(nn_h5_file_type(*d));
  }
  return -1;
}

#define MOST_PACKED 1000 /* elements of a packed data set take at most this many times its bytes in the file */

static herr_t read_foreign_elements(reader *r, hid_t set, hid_t type, hid_t space, hid_t dcpl) {
  nni_array d;
  bool packed;
  void *to;
  herr_t rc = 0;
  hsize_t stored = H5Dget_storage_size(set);
  hid_t as;
  memset(&d, 0, sizeof d);
  d.path = r->path;
  if (check_foreign_layout(r, dcpl, &packed) < 0) return -1;
  if ((as = foreign_type(type, &d.dtype)) < 0) return read_fail(r, "a data set of a type that is not supported; numbers and truth values are read");
  if (d.dtype == NN_U8) { /* our own mark of truth values */
    const int flag = is_bool(r, set);
    if (flag < 0) rc = -1;
    else if (flag) d.dtype = NN_BOOL;
  }
  if (packed && __builtin_mul_overflow(stored, (hsize_t)MOST_PACKED, &stored)) stored = UINT64_MAX;
  if (rc < 0 || read_shape(r, space, &d) < 0) rc = -1;
  else if (d.bytes && stored / H5Tget_size(type) < d.bytes / nn_h5_element_size(d.dtype)) rc = read_fail(r, "claims more elements than the file holds");
  else if (!(to = r->host->dataset(r->host->ud, &d))) rc = read_fail_host(r);
  else if (d.bytes && H5Dread(set, as, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0) rc = read_fail_h5(r, "reading elements");
  H5Tclose(as);
  return rc;
}

/* Our chunks are runs of elements: of some dim a part, 1 of those before it and all of those after it. The dim, or -1. */
static int find_cut(const nni_array *d, const hsize_t *chunk) {
  size_t bytes = nn_h5_element_size(d->dtype);
  int cut, i;
  for (cut = 0; cut < d->ndim - 1 && chunk[cut] == 1; cut++) {
  }
  for (i = 0; i < d->ndim; i++) {
    if (i > cut && chunk[i] != (hsize_t)d->shape[i]) return -1;
    if (chunk[i] == 0 || __builtin_mul_overflow(bytes, (size_t)chunk[i], &bytes)) return -1;
  }
  return bytes <= NNI_H5_PIECE ? cut : -1;
}

/* Elements at `start`, `count` of them in each dim, to the buffer `to`. */
static herr_t read_block(hid_t set, hid_t type, hid_t space, const hsize_t *start, const hsize_t *count, hsize_t n, void *to) {
  const hid_t flat = H5Screate_simple(1, &n, NULL);
  herr_t rc = flat >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 ? H5Dread(set, type, flat, space, H5P_DEFAULT, to) : -1;
  if (flat >= 0) H5Sclose(flat);
  return rc;
}

/* Chunk by chunk through the buffer `to` of NNI_H5_PIECE bytes. */
static herr_t read_pieces(reader *r, hid_t set, hid_t type, hid_t space, hid_t dcpl, const nni_array *d, void *to) {
  hsize_t chunk[NN_MAXDIM], start[NN_MAXDIM] = {0}, count[NN_MAXDIM];
  const size_t size = nn_h5_element_size(d->dtype);
  size_t at = 0;
  int i, cut;
  if (H5Pget_chunk(dcpl, NN_MAXDIM, chunk) != d->ndim || (cut = find_cut(d, chunk)) < 0) return read_fail(r, "chunks of an unusual form");
  while (at < d->bytes) {
    size_t n = 1;
    for (i = 0; i < d->ndim; i++) {
      count[i] = (hsize_t)d->shape[i] - start[i] < chunk[i] ? (hsize_t)d->shape[i] - start[i] : chunk[i];
      n *= (size_t)count[i];
    }
    if (read_block(set, type, space, start, count, n, to) < 0) return read_fail_h5(r, "reading elements");
    if (!r->host->piece(r->host->ud, d, at, to, n * size)) return read_fail_host(r);
    at += n * size;
    start[cut] += chunk[cut];
    for (i = cut; i > 0 && start[i] >= (hsize_t)d->shape[i]; i--) {
      start[i] = 0;
      start[i - 1]++;
    }
  }
  return 0;
}

static herr_t read_elements(reader *r, hid_t set, hid_t type, hid_t space, hid_t dcpl) {
  nni_array d;
  void *to;
  int flag;
  memset(&d, 0, sizeof d);
  d.path = r->path;
  if (!layout_is_ours(dcpl)) return read_fail(r, "a data set that is not stored as nnlua stores them");
  for (d.dtype = (nn_dtype)0; d.dtype < NN_NDTYPE; d.dtype++)
    if (nn_h5_file_type(d.dtype) >= 0 && equal_types(type, nn_h5_file_type(d.dtype))) break;
  if (d.dtype == NN_NDTYPE) return read_fail(r, "a data set of a type that is not supported");
  if ((flag = is_bool(r, set)) < 0) return -1;
  if (flag && nn_h5_element_size(d.dtype) != 1) return read_fail(r, "a data set of a type that is not supported");
  if (nn_h5_element_size(d.dtype) == 1) d.dtype = flag ? NN_BOOL : NN_U8;
  if (read_shape(r, space, &d) < 0) return -1;
  if (d.bytes && H5Dget_storage_size(set) < d.bytes) return read_fail(r, "claims more elements than the file holds");
  if (!(to = r->host->dataset(r->host->ud, &d))) return read_fail_host(r);
  if (r->host->piece && H5Pget_layout(dcpl) == H5D_CHUNKED) return read_pieces(r, set, type, space, dcpl, &d, to);
  if (r->host->piece && d.bytes > NNI_H5_PIECE) return read_fail(r, "a header too large");
  if (d.bytes && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0) return read_fail_h5(r, "reading elements");
  if (r->host->piece && !r->host->piece(r->host->ud, &d, 0, to, d.bytes)) return read_fail_host(r);
  return 0;
}

static herr_t visit_dataset(reader *r, hid_t set) {
  const hid_t type = H5Dget_type(set), space = H5Dget_space(set), dcpl = H5Dget_create_plist(set);
  herr_t rc;
  if (type < 0 || space < 0 || dcpl < 0) rc = read_fail_h5(r, "opening a data set");
  else rc = (r->foreign ? read_foreign_elements : read_elements)(r, set, type, space, dcpl);
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
  if (info.type == H5O_TYPE_NAMED_DATATYPE && r->foreign) return 0;
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

static nn_status read_file(reader *r, const char *name, hid_t fapl) {
  hid_t file = -1, root = -1;
  if (fapl < 0) read_fail_h5(r, "opening");
  else if ((file = H5Fopen(name, H5F_ACC_RDONLY, fapl)) < 0 || (root = H5Oopen(file, "/", H5P_DEFAULT)) < 0) read_fail_h5(r, "opening");
  else visit_object(r, root);
  if (root >= 0) H5Oclose(root);
  if (file >= 0 && H5Fclose(file) < 0) read_fail_h5(r, "closing");
  if (fapl >= 0) H5Pclose(fapl);
  if (!r->failed) return NN_OK;
  return r->err && r->err->status != NN_OK ? r->err->status : NN_EFORMAT;
}

nn_status nn_h5_read_archive(const char *path, int64_t file_size, const nni_h5_host *host, nni_error *err) {
  reader r = {.host = host, .err = err, .file_name = path, .file_size = file_size, .path = "/", .len = 1};
  hid_t fapl;
  quiet q;
  nn_status s = nn_h5_enter(&q, err);
  if (s != NN_OK) return s;
  fapl = H5Pcreate(H5P_FILE_ACCESS);
  if (fapl >= 0 && (H5Pset_fapl_sec2(fapl) < 0 || H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0
#if H5_VERSION_GE(1, 10, 7)
                    || H5Pset_file_locking(fapl, 0, 1) < 0 /* files are replaced, never changed: no locks needed */
#endif
                    )) {
    H5Pclose(fapl);
    fapl = -1;
  }
  s = read_file(&r, path, fapl);
  nn_h5_leave(&q);
  return s;
}

/* HDF5 works on the image itself: these hand it out and copy nothing. */
static void *given_alloc(size_t n, H5FD_file_image_op_t op, void *ud) {
  (void)n, (void)op;
  return ud;
}
static void *given_copy(void *to, const void *from, size_t n, H5FD_file_image_op_t op, void *ud) {
  (void)from, (void)n, (void)op, (void)ud;
  return to;
}
static void *given_resize(void *p, size_t n, H5FD_file_image_op_t op, void *ud) {
  (void)p, (void)n, (void)op, (void)ud;
  return NULL;
}

static herr_t given_free(void *p, H5FD_file_image_op_t op, void *ud) {
  (void)p, (void)op, (void)ud;
  return 0;
}
static void *given_ud(void *ud) { return ud; }
static herr_t drop_ud(void *ud) {
  (void)ud;
  return 0;
}

nn_status nn_h5_read_foreign(const char *name, const void *image, size_t size, const nni_h5_host *host, nni_error *err) {
  reader r = {.host = host, .err = err, .file_name = name, .file_size = (int64_t)size, .path = "/", .len = 1, .foreign = true};
  H5FD_file_image_callbacks_t cb = {given_alloc, given_copy, given_resize, given_free, given_ud, drop_ud, (void *)(uintptr_t)image};
  hid_t fapl;
  quiet q;
  nn_status s = nn_h5_enter(&q, err);
  if (s != NN_OK) return s;
  fapl = H5Pcreate(H5P_FILE_ACCESS);
  if (fapl >= 0 && (H5Pset_fapl_core(fapl, NN_H5_IMAGE_STEP, 0) < 0 || H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0 ||
                    H5Pset_file_image_callbacks(fapl, &cb) < 0 || H5Pset_file_image(fapl, (void *)(uintptr_t)image, size) < 0)) {
    H5Pclose(fapl);
    fapl = -1;
  }
  s = read_file(&r, "/dev/null/nnlua-image", fapl); /* names nothing: the core driver has no backing store */
  nn_h5_leave(&q);
  return s;
}

