/* data/source_csv.c - the CSV reader. See source_csv.h. Cells are split where they lie in the stream's window; a quoted one is unescaped there. */
#define _GNU_SOURCE /* strtod_l */
#include "source_csv.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "../io/stream.h"

#define MOST_COLUMNS 16384
#define MOST_ROW ((size_t)4 << 20) /* bytes of a row: an unclosed quote must not swallow a file into memory */
#define LONGEST_NUMBER 128

typedef struct cell {
  const char *p;
  size_t n;
  bool quoted;
} cell;

typedef struct reader {
  const nn_csv_form *form;
  nni_memory *m;
  nni_error *err;
  nni_stream in;
  locale_t plain; /* numbers have a point, whatever the program's locale is */
  int64_t line, lines; /* where the row begins, and how many lines it has */
  cell *cells;
  int ncells, cap;
} reader;

static nn_status bad(const reader *r, const char *what) {
  return nni_fail(r->err, NN_EFORMAT, "%s: line %lld: %s", r->form->path, (long long)r->line, what);
}

/* ---- rows -------------------------------------------------------------------------------------------------------------- */

/* Where the row at p ends that has a quote somewhere, or NULL when its end isn't among the n bytes. */
static const char *quoted_end(const char *p, size_t n, char delimiter, int64_t *lines) {
  enum { BEGIN, PLAIN, QUOTED, CLOSED } at = BEGIN; /* of a cell */
  *lines = 1;
  for (const char *end = p + n; p < end; p++) {
    if (at == QUOTED) {
      if (*p == '"') at = CLOSED;
      *lines += *p == '\n';
    } else if (*p == '\n') {
      return p;
    } else if (*p == '"' && at != PLAIN) { /* the first, or the second of "" */
      at = QUOTED;
    } else {
      at = *p == delimiter ? BEGIN : PLAIN;
    }
  }
  return NULL;
}

/* The next row: window[lo, lo + *n), *whole bytes with its line's end. *whole == 0: none is left. */
static nn_status find_row(reader *r, size_t *n, size_t *whole) {
  nni_stream *in = &r->in;
  size_t seen = 0;
  *n = *whole = 0;
  for (;;) {
    nn_status rc = nni_stream_want(in, seen + 1);
    if (rc != NN_OK) return rc;
    size_t have = in->hi - in->lo;
    const char *p = (const char *)in->window + in->lo, *end = have > 0 ? memchr(p, '\n', have) : NULL;
    r->lines = 1;
    size_t simple = end != NULL ? (size_t)(end - p) : have;
    if (simple > 0 && memchr(p, '"', simple) != NULL) end = quoted_end(p, have, r->form->delimiter, &r->lines);
    if (end != NULL || in->ended) {
      *n = end != NULL ? (size_t)(end - p) : have;
      *whole = end != NULL ? *n + 1 : have;
      if (*n > 0 && p[*n - 1] == '\r') --*n;
    }
    if ((end == NULL ? have : *n) > MOST_ROW) return bad(r, "a row of more than 4 MB; is a quote not closed?");
    if (end != NULL || in->ended) return NN_OK;
    seen = have > 2 * seen ? have : 2 * seen; /* looked at again from its begin, so no more often than doublings */
  }
}

static nn_status add_cell(reader *r, const char *p, size_t n, bool quoted) {
  if (r->ncells == r->cap) {
    int bigger = r->cap == 0 ? 64 : 2 * r->cap;
    if (bigger > MOST_COLUMNS) return bad(r, "more than 16384 columns");
    cell *c = nni_realloc(r->m, r->cells, (size_t)r->cap * sizeof *c, (size_t)bigger * sizeof *c);
    if (c == NULL) return nni_fail(r->err, NN_ENOMEM, "%s: out of memory", r->form->path);
    r->cells = c;
    r->cap = bigger;
  }
  r->cells[r->ncells++] = (cell){p, n, quoted};
  return NN_OK;
}

/* The quoted cell behind the quote at p, unescaped in place; *next: what follows it. */
static nn_status quoted_cell(reader *r, char *p, char *end, char **next) {
  char *from = p + 1, *to = from;
  for (;; *to++ = *from++) {
    if (from == end) return bad(r, "a quote is not closed");
    if (*from != '"') continue;
    if (from + 1 == end || from[1] != '"') break;
    from++;
  }
  *next = from + 1;
  if (*next < end && **next != r->form->delimiter) return bad(r, "something follows a closing quote");
  return add_cell(r, p + 1, (size_t)(to - p - 1), true);
}

static nn_status split(reader *r, char *p, size_t n) {
  char *end = p + n;
  nn_status rc = NN_OK;
  r->ncells = 0;
  for (char *next = end;; p = next + 1) {
    if (p < end && *p == '"') {
      rc = quoted_cell(r, p, end, &next);
    } else {
      next = p < end ? memchr(p, r->form->delimiter, (size_t)(end - p)) : NULL;
      if (next == NULL) next = end;
      rc = add_cell(r, p, (size_t)(next - p), false);
    }
    if (rc != NN_OK || next == end) return rc;
  }
}

/* The cells of the next row that is not blank; ncells == 0: none is left. */
static nn_status next_row(reader *r) {
  for (;;) {
    size_t n = 0, whole = 0;
    r->ncells = 0;
    r->line += r->lines;
    nn_status rc = find_row(r, &n, &whole);
    if (rc != NN_OK || whole == 0) return rc;
    char *p = (char *)r->in.window + r->in.lo;
    r->in.lo += whole;
    if (n > 0) return split(r, p, n);
  }
}

static void reader_close(reader *r) {
  nni_stream_close(&r->in);
  nni_free(r->m, r->cells, (size_t)r->cap * sizeof *r->cells);
  if (r->plain != (locale_t)0) freelocale(r->plain);
}

/* Open, and past a byte order mark. After a failure too: reader_close. */
static nn_status reader_open(reader *r, nni_memory *m, const nn_csv_form *form, nni_error *err) {
  *r = (reader){.form = form, .m = m, .err = err, .lines = 1};
  nn_status rc = nni_stream_open(&r->in, m, form->path, err);
  if (rc == NN_OK && r->in.file_bytes < 0) rc = nni_fail(err, NN_EIO, "%s: is not a regular file", form->path);
  r->plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (rc == NN_OK && r->plain == (locale_t)0) rc = nni_fail(err, NN_ENOMEM, "%s: out of memory", form->path);
  if (rc == NN_OK) rc = nni_stream_want(&r->in, 3);
  if (rc == NN_OK && r->in.hi >= 3 && memcmp(r->in.window, "\xef\xbb\xbf", 3) == 0) r->in.lo = 3;
  return rc;
}

/* ---- cells ------------------------------------------------------------------------------------------------------------- */

static bool is_missing(const reader *r, const cell *c) {
  if (c->n == 0) return !c->quoted;
  for (int i = 0; i < r->form->nmissing; i++)
    if (strlen(r->form->missing[i]) == c->n && memcmp(r->form->missing[i], c->p, c->n) == 0) return true;
  return false;
}

static cell trimmed(cell c) {
  for (; c.n > 0 && (*c.p == ' ' || *c.p == '\t'); c.p++) c.n--;
  while (c.n > 0 && (c.p[c.n - 1] == ' ' || c.p[c.n - 1] == '\t')) c.n--;
  return c;
}

static bool to_integer(cell c, int64_t *v) {
  c = trimmed(c);
  bool negative = c.n > 0 && *c.p == '-';
  size_t i = c.n > 0 && (*c.p == '-' || *c.p == '+');
  if (i == c.n) return false;
  for (*v = 0; i < c.n; i++) {
    int digit = c.p[i] - '0';
    if (digit < 0 || digit > 9 || __builtin_mul_overflow(*v, 10, v) || __builtin_sub_overflow(*v, digit, v)) return false; /* counted downward */
  }
  return negative || !__builtin_sub_overflow(0, *v, v);
}

static bool to_number(const reader *r, cell c, double *v) {
  static const double tens[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
  c = trimmed(c);
  bool negative = c.n > 0 && *c.p == '-', point = false;
  int64_t digits = 0;
  size_t i = c.n > 0 && (*c.p == '-' || *c.p == '+'), first = i, after = 0;
  if (i == c.n || c.n >= LONGEST_NUMBER) return false;
  for (; i < c.n && i - first < 16; i++) {
    if (c.p[i] == '.' && !point) {
      point = true;
    } else if (c.p[i] >= '0' && c.p[i] <= '9') {
      digits = digits * 10 + (c.p[i] - '0');
      after += point;
    } else {
      break;
    }
  }
  if (i == c.n && c.n - first > (size_t)point && digits < (int64_t)1 << 53) { /* both are exact, so their quotient is rounded once */
    *v = (double)digits / tens[after];
    if (negative) *v = -*v;
    return true;
  }
  char text[LONGEST_NUMBER], *end;
  memcpy(text, c.p, c.n);
  text[c.n] = 0;
  if (memchr(text, 'x', c.n) != NULL || memchr(text, 'X', c.n) != NULL || memchr(text, '(', c.n) != NULL) return false;
  *v = strtod_l(text, &end, r->plain);
  return end == text + c.n;
}

static nn_status width_differs(const reader *r, int want) {
  return nni_fail(r->err, NN_EFORMAT, "%s: line %lld: %d cells, the first row has %d", r->form->path, (long long)r->line, r->ncells, want);
}

/* ---- the first pass ------------------------------------------------------------------------------------------------------ */

void nni_csv_table_free(nni_memory *m, nn_csv_table *table) {
  for (int i = 0; i < table->ncols; i++)
    if (table->cols[i].name != NULL) nni_free(m, table->cols[i].name, strlen(table->cols[i].name) + 1);
  nni_free(m, table->cols, (size_t)table->ncols * sizeof *table->cols);
  *table = (nn_csv_table){0};
}

static nn_status first_row(reader *r, nn_csv_table *table) {
  nn_status rc = next_row(r);
  if (rc != NN_OK) return rc;
  if (r->ncells == 0) return nni_fail(r->err, NN_EFORMAT, "%s: holds no rows", r->form->path);
  table->cols = nni_calloc(r->m, (size_t)r->ncells * sizeof *table->cols);
  if (table->cols == NULL) return nni_fail(r->err, NN_ENOMEM, "%s: out of memory", r->form->path);
  table->ncols = r->ncells;
  for (int i = 0; r->form->header && i < r->ncells; i++) {
    char *name = nni_malloc(r->m, r->cells[i].n + 1);
    if (name == NULL) return nni_fail(r->err, NN_ENOMEM, "%s: out of memory", r->form->path);
    memcpy(name, r->cells[i].p, r->cells[i].n);
    name[r->cells[i].n] = 0;
    table->cols[i].name = name;
    if (strlen(name) == r->cells[i].n) continue;
    nni_free(r->m, name, r->cells[i].n + 1);
    table->cols[i].name = NULL;
    return bad(r, "a name with a zero byte");
  }
  return r->form->header ? next_row(r) : NN_OK;
}

static void look_at(const reader *r, const cell *c, nn_csv_column *col) {
  int64_t i;
  double v;
  col->bytes += (int64_t)c->n;
  if (is_missing(r, c)) {
    col->missing++;
    return;
  }
  if (col->kind == NN_CSV_INTEGERS && !to_integer(*c, &i)) col->kind = NN_CSV_NUMBERS;
  if (col->kind == NN_CSV_NUMBERS && !to_number(r, *c, &v)) col->kind = NN_CSV_TEXTS;
}

nn_status nni_csv_scan(nni_memory *m, const nn_csv_form *form, nn_csv_table *table, nni_error *err) {
  reader r;
  *table = (nn_csv_table){0};
  nn_status rc = reader_open(&r, m, form, err);
  if (rc == NN_OK) rc = first_row(&r, table);
  while (rc == NN_OK && r.ncells > 0) {
    if (r.ncells != table->ncols) {
      rc = width_differs(&r, table->ncols);
      break;
    }
    for (int i = 0; i < r.ncells; i++) look_at(&r, &r.cells[i], &table->cols[i]);
    table->rows++;
    rc = next_row(&r);
  }
  reader_close(&r);
  if (rc != NN_OK) nni_csv_table_free(m, table);
  return rc;
}

/* ---- the second pass ----------------------------------------------------------------------------------------------------- */

static nn_status bad_cell(const reader *r, int col, const char *what, nn_dtype dtype) {
  const cell *c = &r->cells[col];
  return nni_fail(r->err, NN_EFORMAT, "%s: line %lld, column %d: \"%.*s\" %s %s", r->form->path, (long long)r->line, col + 1,
                  (int)(c->n < 40 ? c->n : 40), c->p, what, nn_dtype_name(dtype));
}

static bool fits(nn_dtype dtype, int64_t i) {
  switch (dtype) {
    case NN_I32: return i >= INT32_MIN && i <= INT32_MAX;
    case NN_U8: return i >= 0 && i <= 255;
    case NN_BOOL: return i == 0 || i == 1;
    default: return true;
  }
}

static nn_status store(const reader *r, const nn_csv_part *part, void *data, int col, size_t at) {
  const cell *c = &r->cells[col];
  const bool real = part->dtype == NN_F32 || part->dtype == NN_F64;
  double v = 0;
  int64_t i = 0;
  if (is_missing(r, c)) {
    v = part->fill;
    if (!real && !(v >= -0x1p63 && v < 0x1p63)) return bad_cell(r, col, "is missing (option fill), and there is no NaN in", part->dtype);
    if (!real) i = (int64_t)v;
  } else if (real ? !to_number(r, *c, &v) : !to_integer(*c, &i)) {
    return bad_cell(r, col, "is no number of", part->dtype);
  }
  if (!real && !fits(part->dtype, i)) return bad_cell(r, col, "doesn't fit", part->dtype);
  switch (part->dtype) {
    case NN_F64: ((double *)data)[at] = v; break;
    case NN_F32: ((float *)data)[at] = (float)v; break;
    case NN_I64: ((int64_t *)data)[at] = i; break;
    case NN_I32: ((int32_t *)data)[at] = (int32_t)i; break;
    default: ((uint8_t *)data)[at] = (uint8_t)i;
  }
  return NN_OK;
}

static nn_status store_text(const reader *r, int col, nni_csv_data *to, int64_t row) {
  const cell *c = &r->cells[col];
  size_t at = (size_t)to->ends[row];
  if (c->n > to->bytes - at) return bad(r, "the file changed while it was read");
  if (c->n > 0) memcpy((char *)to->data + at, c->p, c->n);
  to->ends[row + 1] = (int32_t)(at + c->n);
  return NN_OK;
}

static nn_status part_open(nni_memory *m, const nn_csv_form *form, const nn_csv_table *table, const nn_csv_part *part, nni_csv_data *to,
                           nni_error *err) {
  int64_t sizes[] = {table->rows, part->ncols}, count;
  for (int i = 0; i < part->ncols; i++)
    if (part->cols[i] < 0 || part->cols[i] >= table->ncols) return nni_fail(err, NN_EINVAL, "%s: there is no column %d", form->path, part->cols[i] + 1);
  if (part->text) {
    int64_t bytes = table->cols[part->cols[0]].bytes;
    if (bytes > INT32_MAX || part->ncols != 1)
      return nni_fail(err, NN_EINVAL, "%s: column %d holds %lld bytes of text; up to 2 GiB are read", form->path, part->cols[0] + 1, (long long)bytes);
    to->bytes = (size_t)bytes;
    to->ends = nni_buffer_get(m, ((size_t)table->rows + 1) * sizeof *to->ends);
    if (to->ends != NULL) to->ends[0] = 0;
  } else {
    if (!nni_size_mul(sizes, 2, nn_dtype_size(part->dtype), &count)) return nni_fail(err, NN_ENOMEM, "%s: too large", form->path);
    to->bytes = (size_t)count * nn_dtype_size(part->dtype);
  }
  to->data = nni_buffer_get(m, to->bytes);
  if (to->data != NULL && (to->ends != NULL || !part->text)) return NN_OK;
  return nni_fail(err, NN_ENOMEM, "%s: out of memory for %zu bytes", form->path, to->bytes);
}

static nn_status read_rows(reader *r, const nn_csv_table *table, int n, const nn_csv_part *parts, nni_csv_data *data) {
  int64_t row = 0;
  nn_status rc = next_row(r);
  if (r->form->header && rc == NN_OK) rc = next_row(r);
  for (; rc == NN_OK && r->ncells > 0; row++) {
    if (r->ncells != table->ncols || row == table->rows) return bad(r, "the file changed while it was read");
    for (int i = 0; i < n && rc == NN_OK; i++) {
      const nn_csv_part *part = &parts[i];
      if (part->text) rc = store_text(r, part->cols[0], &data[i], row);
      for (int k = 0; !part->text && k < part->ncols && rc == NN_OK; k++)
        rc = store(r, part, data[i].data, part->cols[k], (size_t)row * (size_t)part->ncols + (size_t)k);
    }
    if (rc == NN_OK) rc = next_row(r);
  }
  return rc == NN_OK && row < table->rows ? bad(r, "the file changed while it was read") : rc;
}

nn_status nni_csv_read(nni_memory *m, const nn_csv_form *form, const nn_csv_table *table, int n, const nn_csv_part *parts, nni_csv_data *data,
                       nni_error *err) {
  reader r;
  nn_status rc = reader_open(&r, m, form, err);
  for (int i = 0; i < n && rc == NN_OK; i++) rc = part_open(m, form, table, &parts[i], &data[i], err);
  if (rc == NN_OK) rc = read_rows(&r, table, n, parts, data);
  reader_close(&r);
  for (int i = 0; i < n && rc != NN_OK; i++) {
    if (data[i].data != NULL) nni_buffer_put(m, data[i].data, data[i].bytes);
    if (data[i].ends != NULL) nni_buffer_put(m, data[i].ends, ((size_t)table->rows + 1) * sizeof *data[i].ends);
    data[i] = (nni_csv_data){0};
  }
  return rc;
}
