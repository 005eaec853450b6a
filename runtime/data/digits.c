/* data/digits.c - see digits.h. A digit is a few strokes through control points (several ways of writing each). The points are shaken, put
** through a random affine map, joined by straight lines or a Catmull-Rom curve, and drawn with a round pen of random width, anti-aliased by
** distance; then comes noise.
*/
#include "digits.h"
#include <math.h>

#define SIDE NNI_DIGIT_SIDE
#define PIXELS (SIDE * SIDE)
#define MAX_POINTS 12
#define CURVE_STEPS 5  /* straight pieces between two control points of a curve */
#define BODY 20.0f     /* pixels that the unit box of the templates takes */
#define STREAM_BIT ((uint64_t)0x6469 << 48) /* keeps our draws apart from other uses of the same seed */

/* Control points in a unit box, y downwards. */
typedef struct stroke {
  uint8_t digit, style, curved, n;
  float p[MAX_POINTS][2];
} stroke;

static const stroke strokes[] = {
  {0, 0, 1, 9, {{.5f, .07f}, {.25f, .22f}, {.15f, .52f}, {.26f, .83f}, {.52f, .93f}, {.77f, .77f}, {.85f, .44f}, {.72f, .15f}, {.5f, .07f}}},
  {0, 1, 1, 10, {{.62f, .12f}, {.36f, .12f}, {.2f, .38f}, {.2f, .7f}, {.42f, .93f}, {.7f, .82f}, {.8f, .5f}, {.74f, .2f}, {.5f, .07f}, {.34f, .16f}}},
  {1, 0, 0, 2, {{.5f, .07f}, {.5f, .93f}}},
  {1, 1, 0, 3, {{.32f, .25f}, {.53f, .07f}, {.53f, .93f}}},
  {1, 2, 0, 3, {{.32f, .25f}, {.52f, .07f}, {.52f, .93f}}},
  {1, 2, 0, 2, {{.28f, .93f}, {.76f, .93f}}},
  {1, 3, 0, 2, {{.52f, .07f}, {.48f, .93f}}},
  {2, 0, 1, 7, {{.2f, .27f}, {.32f, .11f}, {.54f, .07f}, {.75f, .2f}, {.7f, .43f}, {.46f, .68f}, {.18f, .91f}}},
  {2, 0, 0, 2, {{.18f, .91f}, {.85f, .91f}}},
  {2, 1, 1, 10, {{.2f, .24f}, {.42f, .08f}, {.7f, .16f}, {.7f, .4f}, {.48f, .68f}, {.25f, .88f}, {.15f, .8f}, {.3f, .74f}, {.55f, .87f},
                 {.88f, .88f}}},
  {2, 2, 1, 6, {{.24f, .16f}, {.5f, .07f}, {.74f, .22f}, {.66f, .5f}, {.42f, .74f}, {.22f, .9f}}},
  {2, 2, 1, 3, {{.22f, .9f}, {.5f, .86f}, {.82f, .92f}}},
  {3, 0, 1, 5, {{.2f, .17f}, {.47f, .07f}, {.74f, .2f}, {.68f, .4f}, {.4f, .47f}}},
  {3, 0, 1, 5, {{.4f, .47f}, {.73f, .55f}, {.8f, .76f}, {.54f, .93f}, {.18f, .85f}}},
  {3, 1, 0, 3, {{.2f, .1f}, {.77f, .1f}, {.46f, .42f}}},
  {3, 1, 1, 5, {{.46f, .42f}, {.77f, .54f}, {.79f, .79f}, {.5f, .93f}, {.18f, .84f}}},
  {3, 2, 1, 9, {{.24f, .12f}, {.55f, .08f}, {.7f, .25f}, {.52f, .44f}, {.42f, .46f}, {.64f, .54f}, {.74f, .74f}, {.52f, .92f}, {.2f, .88f}}},
  {4, 0, 0, 3, {{.64f, .07f}, {.15f, .64f}, {.88f, .64f}}},
  {4, 0, 0, 2, {{.64f, .07f}, {.64f, .93f}}},
  {4, 1, 0, 3, {{.25f, .09f}, {.2f, .52f}, {.8f, .52f}}},
  {4, 1, 0, 2, {{.78f, .07f}, {.72f, .93f}}},
  {4, 2, 1, 4, {{.28f, .1f}, {.2f, .4f}, {.4f, .55f}, {.78f, .5f}}},
  {4, 2, 0, 2, {{.76f, .12f}, {.66f, .93f}}},
  {5, 0, 0, 3, {{.79f, .09f}, {.31f, .09f}, {.26f, .46f}}},
  {5, 0, 1, 6, {{.26f, .46f}, {.52f, .4f}, {.79f, .55f}, {.76f, .82f}, {.48f, .93f}, {.18f, .85f}}},
  {5, 1, 1, 7, {{.34f, .12f}, {.27f, .42f}, {.5f, .43f}, {.74f, .58f}, {.7f, .83f}, {.44f, .93f}, {.2f, .87f}}},
  {5, 1, 0, 2, {{.33f, .11f}, {.82f, .08f}}},
  {6, 0, 1, 9, {{.68f, .07f}, {.41f, .22f}, {.22f, .54f}, {.26f, .84f}, {.52f, .93f}, {.77f, .78f}, {.73f, .57f}, {.48f, .52f}, {.26f, .7f}}},
  {6, 1, 1, 8, {{.5f, .07f}, {.32f, .34f}, {.24f, .68f}, {.4f, .92f}, {.66f, .86f}, {.7f, .62f}, {.48f, .54f}, {.28f, .7f}}},
  {7, 0, 0, 3, {{.16f, .11f}, {.84f, .11f}, {.4f, .93f}}},
  {7, 1, 0, 3, {{.16f, .12f}, {.82f, .12f}, {.42f, .93f}}},
  {7, 1, 0, 2, {{.34f, .52f}, {.76f, .5f}}},
  {7, 2, 1, 6, {{.18f, .2f}, {.4f, .11f}, {.78f, .12f}, {.66f, .38f}, {.52f, .64f}, {.44f, .93f}}},
  {8, 0, 1, 12, {{.72f, .2f}, {.48f, .07f}, {.27f, .22f}, {.4f, .42f}, {.66f, .58f}, {.77f, .78f}, {.5f, .93f}, {.24f, .79f}, {.34f, .58f},
                 {.58f, .44f}, {.75f, .26f}, {.68f, .15f}}},
  {8, 1, 1, 7, {{.5f, .07f}, {.3f, .16f}, {.33f, .4f}, {.55f, .46f}, {.72f, .33f}, {.68f, .14f}, {.5f, .07f}}},
  {8, 1, 1, 7, {{.53f, .46f}, {.27f, .58f}, {.26f, .83f}, {.52f, .93f}, {.77f, .8f}, {.74f, .57f}, {.53f, .46f}}},
  {9, 0, 1, 6, {{.75f, .27f}, {.54f, .08f}, {.28f, .22f}, {.28f, .45f}, {.52f, .53f}, {.75f, .32f}}},
  {9, 0, 1, 3, {{.76f, .2f}, {.73f, .58f}, {.62f, .93f}}},
  {9, 1, 1, 6, {{.72f, .3f}, {.56f, .09f}, {.3f, .2f}, {.27f, .42f}, {.48f, .52f}, {.74f, .36f}}},
  {9, 1, 1, 4, {{.76f, .22f}, {.78f, .6f}, {.62f, .88f}, {.3f, .9f}}},
  {9, 2, 1, 6, {{.7f, .2f}, {.45f, .07f}, {.24f, .28f}, {.42f, .5f}, {.68f, .36f}, {.7f, .18f}}},
  {9, 2, 0, 2, {{.71f, .16f}, {.7f, .93f}}},
};
static const uint8_t styles[10] = {2, 4, 3, 3, 3, 2, 2, 3, 2, 3};

/* Random numbers of one sample. */
typedef struct source {
  uint64_t seed, stream, next;
  nni_philox p;
  int left;
} source;

static uint32_t word(source *r) {
  if (r->left == 0) {
    r->p = nni_philox4x32(r->seed, r->next++, r->stream);
    r->left = 4;
  }
  return r->p.v[--r->left];
}

static float between(source *r, float lo, float hi) { return lo + (hi - lo) * nni_uniform01(word(r)); }
static float about_zero(source *r, float most) { return most * (nni_uniform01(word(r)) - nni_uniform01(word(r))); } /* triangular */

/* Ink along a straight piece from a to b: the most that any piece gives a pixel counts. cover is 28 x 28. */
static void draw_piece(float *cover, const float *a, const float *b, float radius) {
  float reach = radius + 0.5f, dx = b[0] - a[0], dy = b[1] - a[1], len2 = dx * dx + dy * dy, inv = len2 > 0 ? 1 / len2 : 0;
  int x0 = (int)fmaxf(0, floorf(fminf(a[0], b[0]) - reach)), x1 = (int)fminf(SIDE - 1, ceilf(fmaxf(a[0], b[0]) + reach));
  int y0 = (int)fmaxf(0, floorf(fminf(a[1], b[1]) - reach)), y1 = (int)fminf(SIDE - 1, ceilf(fmaxf(a[1], b[1]) + reach));
  for (int y = y0; y <= y1; y++) {
    float *row = cover + y * SIDE, py = (float)y - a[1];
    for (int x = x0; x <= x1; x++) {
      float px = (float)x - a[0], t = (px * dx + py * dy) * inv;
      t = t < 0 ? 0 : t > 1 ? 1 : t;
      float ex = px - t * dx, ey = py - t * dy, ink = reach - sqrtf(ex * ex + ey * ey);
      row[x] = ink > row[x] ? ink : row[x];
    }
  }
}

static void draw_stroke(float *cover, float (*p)[2], int n, bool curved, float radius) {
  for (int i = 0; i + 1 < n; i++) {
    const float *p0 = p[i > 0 ? i - 1 : 0], *p1 = p[i], *p2 = p[i + 1], *p3 = p[i + 2 < n ? i + 2 : n - 1];
    float from[2] = {p1[0], p1[1]}, to[2];
    int steps = curved ? CURVE_STEPS : 1;
    for (int k = 1; k <= steps; k++) {
      float t = (float)k / (float)steps, t2 = t * t, t3 = t2 * t;
      for (int c = 0; c < 2; c++) {
        float bend = 2 * p1[c] + (p2[c] - p0[c]) * t + (2 * p0[c] - 5 * p1[c] + 4 * p2[c] - p3[c]) * t2 + (3 * (p1[c] - p2[c]) + p3[c] - p0[c]) * t3;
        to[c] = curved ? 0.5f * bend : p2[c];
      }
      draw_piece(cover, from, to, radius);
      memcpy(from, to, sizeof from);
    }
  }
}

static void draw_digit(source *r, int digit, float *cover) {
  uint32_t style = (uint32_t)((uint64_t)word(r) * styles[digit] >> 32);
  float turn = about_zero(r, 0.3f), slant = about_zero(r, 0.45f) + 0.1f, radius = between(r, 0.6f, 1.7f);
  float wide = BODY * between(r, 0.72f, 1.06f), high = BODY * between(r, 0.82f, 1.06f);
  float cx = (SIDE - 1) * 0.5f + about_zero(r, 2.2f), cy = (SIDE - 1) * 0.5f + about_zero(r, 2.2f);
  float c = cosf(turn), s = sinf(turn);
  for (int i = 0; i < NNI_COUNT(strokes); i++) {
    const stroke *k = &strokes[i];
    float p[MAX_POINTS][2];
    if (k->digit != digit || k->style != style) continue;
    for (int j = 0; j < k->n; j++) {
      float x = (k->p[j][0] - 0.5f + about_zero(r, 0.11f)) * wide, y = (k->p[j][1] - 0.5f + about_zero(r, 0.11f)) * high;
      x -= slant * y; /* writing leans to the right: the top goes right */
      p[j][0] = cx + c * x - s * y;
      p[j][1] = cy + s * x + c * y;
    }
    draw_stroke(cover, p, k->n, k->curved, radius);
  }
}

typedef struct job {
  uint64_t seed;
  int64_t first;
  uint8_t *images, *labels;
} job;

static void draw_samples(void *arg, int64_t begin, int64_t end, int tid) {
  const job *j = arg;
  (void)tid;
  for (int64_t i = begin; i < end; i++) {
    source r = {.seed = j->seed, .stream = STREAM_BIT + (uint64_t)(j->first + i)};
    float cover[PIXELS] = {0};
    uint32_t noise[PIXELS / 4];
    int digit = (int)((uint64_t)word(&r) * 10 >> 32);
    float ink = between(&r, 190, 255), grain = between(&r, 0, 24), paper = between(&r, -1, 1);
    draw_digit(&r, digit, cover);
    nni_random_u32(j->seed, r.stream, 4 * (r.next + 1), noise, NNI_COUNT(noise));
    paper = paper > 0 ? paper * 0.3f : 0; /* half of the papers are clean */
    uint8_t *out = j->images + i * PIXELS;
    for (int k = 0; k < PIXELS; k++) {
      float n = (float)(int)(noise[k / 4] >> (8 * (k % 4)) & 255) * (2.0f / 255) - 1, cov = cover[k] < 1 ? cover[k] : 1;
      float v = ink * cov + n * grain * (cov > 0 ? 1 : paper);
      out[k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    j->labels[i] = (uint8_t)digit;
  }
}

void nni_digits(nni_threads *threads, uint64_t seed, int64_t first, int64_t n, uint8_t *images, uint8_t *labels) {
  job j = {.seed = seed, .first = first, .images = images, .labels = labels};
  nni_parallel(threads, n, draw_samples, &j);
}
