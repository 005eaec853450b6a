/* data/digits.h - generated handwritten-like digits, for when there is no MNIST and no network. */
#ifndef NNI_DIGITS_H
#define NNI_DIGITS_H
#include "../base/base.h"

#define NNI_DIGIT_SIDE 28

/* Samples [first, first + n) of the endless list that `seed` names: images n x 28 x 28 (0 paper, 255 ink), labels n (0 to 9).
** Sample i depends on seed and i only. */
void nni_digits(nni_threads *threads, uint64_t seed, int64_t first, int64_t n, uint8_t *images, uint8_t *labels);

#endif
