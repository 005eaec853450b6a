/* io/sheet.h - a file that a library writes in any order and that must never see a write fail.
**
** HDF5 cannot recover from a failed write, and knows only at the end what stands in a file's index. So a sheet takes elements straight to their
** place in the file (the sink), keeps everything else in memory (pages of 1 KiB, small beside the elements), and writes that at the end. When the sink
** fails, `failed` is set, `err` says why, and the rest of the elements is dropped: the library goes on as if nothing had happened and closes in peace.
** Invariants: elements are written once each and never read; CRC-32 of the whole file comes from what was handed in, not from the disk.
** One thread at a time. Used by archive_file.c.
*/
#ifndef NNI_SHEET_H
#define NNI_SHEET_H
#include "replace.h"

typedef struct nni_sheet_page {
  int64_t number; /* holds bytes number * 1024 ... */
  unsigned char *bytes;
} nni_sheet_page;

typedef struct nni_sheet_run { /* elements that are in the file */
  int64_t at;
  size_t n;
  uint32_t crc;
} nni_sheet_run;

typedef struct nni_sheet_slab { /* memory of pages */
  unsigned char *p;
  size_t bytes, used;
} nni_sheet_slab;

#define NNI_SHEET_SLABS 24

typedef struct nni_sheet {
  nni_memory *m;
  const nni_sink *to;
  bool failed;
  nni_error err;
  nni_sheet_page *pages; /* by number */
  nni_sheet_run *runs;   /* by place */
  int npages, pages_cap, nruns, runs_cap, nslabs;
  nni_sheet_slab slabs[NNI_SHEET_SLABS];
} nni_sheet;

/* `room`: bytes of pages for which memory is taken at once, so that taking it cannot fail later. False: out of memory. Close it in either case. */
bool nni_sheet_open(nni_sheet *s, nni_memory *m, const nni_sink *to, size_t room);
void nni_sheet_close(nni_sheet *s);
void nni_sheet_elements(nni_sheet *s, int64_t at, const void *p, size_t n);
bool nni_sheet_keep(nni_sheet *s, int64_t at, const void *p, size_t n); /* false: more pages than `room`, and out of memory */
void nni_sheet_get(const nni_sheet *s, int64_t at, void *p, size_t n);  /* of what was kept; zeros where nothing was */
/* Write what was kept into the file of `size` bytes, zeros where nothing was handed in; *crc is the CRC-32 of them all. */
nn_status nni_sheet_finish(nni_sheet *s, int64_t size, uint32_t *crc, nni_error *err);

#endif
