/* cpu/isa/rows_stream.h - STREAM(p, v): a vector to aligned memory past the caches; a line that is written whole need not be read first. */
#ifndef NN_CPU_ROWS_STREAM_H
#define NN_CPU_ROWS_STREAM_H
#include "vm.h"

#if defined(__AVX512F__) && VW == 16
#define STREAM(p, v) _mm512_stream_ps((float *)(p), (__m512)(v))
#elif defined(__AVX2__) && VW == 8
#define STREAM(p, v) _mm256_stream_ps((float *)(p), (__m256)(v))
#elif defined(__SSE4_1__) && VW == 4
#define STREAM(p, v) _mm_stream_ps((float *)(p), (__m128)(v))
#else
#define STREAM(p, v) *(vf *)(p) = (v)
#endif
#endif
