/* io/sheet.c - files written in any order: see sheet.h. Owns the pages and the list of what is in the file already. */
#include "sheet.h"

#include <zlib.h>

#define PAGE ((size_t)1024)
#define SCRATCH ((size_t)1 << 16)

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */
static bool grow_list(nni_memory *m, void **list, int *cap, int want, size_t size) {
  void *p = nni_realloc(m, *list, (size_t)*cap * size, (size_t)want * size);
  if (!p) return false;
  *list = p;
  *cap = want;
  return true;
}

static bool add_slab(nni_sheet *s, size_t bytes) {
  nni_sheet_slab *slab = &s->slabs[s->nslabs];
  const int pages = s->npages + (int)(bytes / PAGE);
  void *list = s->pages;
  if (s->nslabs == NNI_SHEET_SLABS || (pages > s->pages_cap && !grow_list(s->m, &list, &s->pages_cap, pages, sizeof *s->pages))) return false;
  s->pages = list;
  if (!(slab->p = nni_buffer_get(s->m, bytes))) return false;
  slab->bytes = bytes;
  slab->used = 0;
  s->nslabs++;
  return true;
}

bool nni_sheet_open(nni_sheet *s, nni_memory *m, const nni_sink *to, size_t room) {
  memset(s, 0, sizeof *s);
  s->m = m;
  s->to = to;
  return add_slab(s, (room / PAGE + 1) * PAGE);
}

void nni_sheet_close(nni_sheet *s) {
  int i;
  if (!s->m) return; /* never opened */
  for (i = 0; i < s->nslabs; i++) nni_buffer_put(s->m, s->slabs[i].p, s->slabs[i].bytes);
  nni_free(s->m, s->pages, (size_t)s->pages_cap * sizeof *s->pages);
  nni_free(s->m, s->runs, (size_t)s->runs_cap * sizeof *s->runs);
  memset(s, 0, sizeof *s);
}

/* ---- pages --------------------------------------------------------------------------------------------------------------------- */
/* Index of the first page whose number is at least this. */
static int find_page(const nni_sheet *s, int64_t number) {
  int low = 0, high = s->npages;
  if (s->npages && s->pages[s->npages - 1].number < number) return s->npages;
  while (low < high) {
    const int mid = low + (high - low) / 2;
    if (s->pages[mid].number < number) low = mid + 1;
    else high = mid;
  }
  return low;
}

static unsigned char *make_page(nni_sheet *s, int64_t number) {
  const int i = find_page(s, number);
  nni_sheet_slab *slab = &s->slabs[s->nslabs - 1];
  if (i < s->npages && s->pages[i].number == number) return s->pages[i].bytes;
  if (slab->used == slab->bytes) {
    if (!add_slab(s, 2 * slab->bytes)) return NULL;
    slab++;
  }
  memmove(s->pages + i + 1, s->pages + i, (size_t)(s->npages - i) * sizeof *s->pages);
  s->npages++;
  s->pages[i] = (nni_sheet_page){number, slab->p + slab->used};
  slab->used += PAGE;
  return memset(s->pages[i].bytes, 0, PAGE);
}

bool nni_sheet_keep(nni_sheet *s, int64_t at, const void *p, size_t n) {
  const unsigned char *from = p;
  while (n > 0) {
    const size_t in = (size_t)at % PAGE, piece = n < PAGE - in ? n : PAGE - in;
    unsigned char *page = make_page(s, at / (int64_t)PAGE);
    if (!page) return false;
    memcpy(page + in, from, piece);
    from += piece;
    at += (int64_t)piece;
    n -= piece;
  }
  return true;
}

void nni_sheet_get(const nni_sheet *s, int64_t at, void *p, size_t n) {
  unsigned char *to = p;
  while (n > 0) {
    const size_t in = (size_t)at % PAGE, piece = n < PAGE - in ? n : PAGE - in;
    const int i = find_page(s, at / (int64_t)PAGE);
    if (i < s->npages && s->pages[i].number == at / (int64_t)PAGE) memcpy(to, s->pages[i].bytes + in, piece);
    else memset(to, 0, piece);
    to += piece;
    at += (int64_t)piece;
    n -= piece;
  }
}

/* ---- elements -------------------------------------------------------------------------------------------------------------------- */
static nn_status add_run(nni_sheet *s, nni_sheet_run run) {
  void *list = s->runs;
  int i = s->nruns;
  if (s->nruns == s->runs_cap) {
    if (!grow_list(s->m, &list, &s->runs_cap, s->runs_cap ? 2 * s->runs_cap : 64, sizeof *s->runs)) return nni_fail(&s->err, NN_ENOMEM, "out of memory");
    s->runs = list;
  }
  for (; i > 0 && s->runs[i - 1].at > run.at; i--) s->runs[i] = s->runs[i - 1]; /* nearly always at the end */
  s->runs[i] = run;
  s->nruns++;
  return NN_OK;
}

void nni_sheet_elements(nni_sheet *s, int64_t at, const void *p, size_t n) {
  if (s->failed || n == 0) return;
  s->failed = add_run(s, (nni_sheet_run){at, n, nn_crc32(0, p, n)}) != NN_OK || s->to->write(s->to->ud, p, n, (size_t)at, &s->err) != NN_OK;
}

/* ---- the end ------------------------------------------------------------------------------------------------------------------------ */
/* Write what is kept of [from, to). */
static nn_status write_kept(const nni_sheet *s, int64_t from, int64_t to, void *scratch, uint32_t *crc, nni_error *err) {
  while (from < to) {
    const size_t n = to - from < (int64_t)SCRATCH ? (size_t)(to - from) : SCRATCH;
    nn_status status;
    nni_sheet_get(s, from, scratch, n);
    *crc = nn_crc32(*crc, scratch, n);
    if ((status = s->to->write(s->to->ud, scratch, n, (size_t)from, err)) != NN_OK) return status;
    from += (int64_t)n;
  }
  return NN_OK;
}

nn_status nni_sheet_finish(nni_sheet *s, int64_t size, uint32_t *crc, nni_error *err) {
  void *scratch = nni_buffer_get(s->m, SCRATCH);
  nn_status status = scratch ? NN_OK : nni_fail(err, NN_ENOMEM, "out of memory");
  int64_t at = 0;
  int i;
  *crc = 0;
  for (i = 0; i < s->nruns && status == NN_OK; i++) {
    const nni_sheet_run *run = &s->runs[i];
    if (run->at < at || run->at > size || (int64_t)run->n > size - run->at) status = nni_fail(err, NN_EINTERNAL, "elements were written twice or past the end");
    else status = write_kept(s, at, run->at, scratch, crc, err);
    *crc = (uint32_t)crc32_combine(*crc, run->crc, (z_off_t)run->n);
    at = run->at + (int64_t)run->n;
  }
  if (status == NN_OK) status = write_kept(s, at, size, scratch, crc, err);
  if (scratch) nni_buffer_put(s->m, scratch, SCRATCH);
  return status;
}
