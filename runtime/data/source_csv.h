/* data/source_csv.h - tables of text (CSV; RFC 4180) as columns, in two passes: nni_csv_scan says what is there, nni_csv_read reads what is asked for.
**
** Neither holds the file, gzipped or not: memory is one row of text, 40 bytes for each column, and what is asked for, which a table of n bytes
** bounds by 4 n (texts, i32, f32, and i64 without missing cells) or 8 n. Blank lines are passed over. Called from any thread.
*/
#ifndef NNI_SOURCE_CSV_H
#define NNI_SOURCE_CSV_H
#include "../base/base.h"
#include "../nn_sources.h"

nn_status nni_csv_scan(nni_memory *m, const nn_csv_form *form, nn_csv_table *table, nni_error *err); /* on failure nothing is to be freed */
void nni_csv_table_free(nni_memory *m, nn_csv_table *table);

typedef struct nni_csv_data { /* of one part; buffers of nni_buffer_get */
  void *data;
  size_t bytes;
  int32_t *ends; /* of texts: rows + 1 */
} nni_csv_data;

/* data[n] is zeroed; on failure it holds nothing. */
nn_status nni_csv_read(nni_memory *m, const nn_csv_form *form, const nn_csv_table *table, int n, const nn_csv_part *parts, nni_csv_data *data,
                       nni_error *err);

#endif
