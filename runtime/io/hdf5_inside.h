/* io/hdf5_inside.h - what the two halves of the module nn_hdf5 share (hdf5_module.c, hdf5_read_module.c). Nobody else includes it. */
#ifndef NN_HDF5_INSIDE_H
#define NN_HDF5_INSIDE_H
#define H5_USE_110_API
#include <hdf5.h>

#include "hdf5_module.h"

#define NN_H5_IMAGE_STEP ((size_t)1 << 16)

NNI_PRINTF(3, 4) nn_status nn_h5_fail(nni_error *err, nn_status s, const char *fmt, ...);
/* With HDF5's own reason. Call at once after the HDF5 call that failed: later calls clear its error stack. */
nn_status nn_h5_fail_reason(nni_error *err, nn_status s, const char *before, const char *what);

/* Around every use of HDF5: starts it once, keeps its error printing off while we are inside. */
typedef struct quiet {
  H5E_auto2_t fn;
  void *data;
} quiet;
nn_status nn_h5_enter(quiet *q, nni_error *err);
void nn_h5_leave(const quiet *q);

hid_t nn_h5_file_type(nn_dtype d); /* what our files hold for it; -1: nothing */
size_t nn_h5_element_size(nn_dtype d);

nn_status nn_h5_read_archive(const char *path, int64_t file_size, const nni_h5_host *host, nni_error *err);
nn_status nn_h5_read_foreign(const char *name, const void *image, size_t size, const nni_h5_host *host, nni_error *err);

#endif
