/* test_vulkan_coopmat.c - cooperative matrices without a device that has them: the rewritten words of the shader, which shapes are chosen, which operands fit.
** That the dispatch computes the right thing is not shown here: no device of the test machines lists the extension.
*/
#include "vulkan/coopmat.h"
#include <stdio.h>
#include <stdlib.h>

static const uint32_t nv[] = {
#include "matmul_coopmat.inc"
};
static int failures, checks;
#define CHECK(ok, ...) ((ok) ? (void)checks++ : (checks++, failures++, printf("%s: ", __func__), printf(__VA_ARGS__), (void)printf("\n")))

enum { MOST = 16384 };

/* how often an opcode stands in a module; -1: the instructions do not add up to it */
static int count(const uint32_t *w, size_t n, uint32_t op) {
  int found = 0;
  size_t i = 5;
  for (; i < n && w[i] >> 16; i += w[i] >> 16) found += (w[i] & 0xffff) == op;
  return i == n ? found : -1;
}
static const uint32_t *defined(const uint32_t *w, size_t n, uint32_t op, uint32_t at, uint32_t id) { /* the instruction op whose word `at` is id */
  for (size_t i = 5; i < n && w[i] >> 16; i += w[i] >> 16)
    if ((w[i] & 0xffff) == op && (w[i] >> 16) > at && w[i + at] == id) return w + i;
  return NULL;
}

static uint32_t value_of(const uint32_t *w, size_t n, uint32_t id) {
  const uint32_t *c = defined(w, n, 43, 2, id);
  return c ? c[3] : 99;
}
static uint32_t spec_of(const uint32_t *w, size_t n, uint32_t id) {
  for (size_t i = 5; i < n; i += w[i] >> 16)
    if ((w[i] & 0xffff) == 71 && w[i + 1] == id && w[i + 2] == 1) return w[i + 3];
  return 99;
}

static void check_patch(void) {
  static uint32_t khr[MOST];
  static const uint32_t pairs[][2] = {{5358, 4456}, {5359, 4457}, {5360, 4458}, {5361, 4459}, {5362, 4460}};
  const size_t n = NNI_COUNT(nv), m = nn_vk_coopmat_patch(nv, n, khr, MOST);
  CHECK(m > n && m <= n + NN_VK_CM_MORE, "%zu words became %zu", n, m);
  for (int i = 0; i < NNI_COUNT(pairs); i++) {
    CHECK(count(khr, m, pairs[i][0]) == 0, "opcode %u is still there", pairs[i][0]);
    CHECK(count(khr, m, pairs[i][1]) == count(nv, n, pairs[i][0]), "opcode %u: %d, not %d", pairs[i][1], count(khr, m, pairs[i][1]), count(nv, n, pairs[i][0]));
  }
  CHECK(count(khr, m, 4456) == 3 && count(khr, m, 4457) == 4 && count(khr, m, 4458) >= 1 && count(khr, m, 4459) >= 1, "not the shader that was expected");
  CHECK(khr[3] == nv[3] + 3, "the bound of ids is %u", khr[3]);
  CHECK(defined(khr, m, 17, 1, 6022) && !defined(khr, m, 17, 1, 5357), "the capability is not KHR's");
  bool named = false;
  for (size_t i = 5; i < m; i += khr[i] >> 16) {
    const uint32_t *w = khr + i;
    if ((w[0] & 0xffff) == 10) named = named || strcmp((const char *)(w + 1), "SPV_KHR_cooperative_matrix") == 0;
    if ((w[0] & 0xffff) == 10) CHECK(strcmp((const char *)(w + 1), "SPV_NV_cooperative_matrix") != 0, "NV's extension is still named");
    if ((w[0] & 0xffff) == 4456) { /* rows and columns say which factor it is */
      const uint32_t rows = spec_of(khr, m, w[4]), columns = spec_of(khr, m, w[5]), use = value_of(khr, m, w[6]);
      CHECK(w[0] >> 16 == 7, "a type of %u words", w[0] >> 16);
      CHECK((use == 0 && rows == 10 && columns == 12) || (use == 1 && rows == 12 && columns == 11) || (use == 2 && rows == 10 && columns == 11),
            "use %u of a matrix of constants %u x %u", use, rows, columns);
      const uint32_t *three = defined(khr, m, 43, 2, w[6]);
      CHECK(three && three < w, "the constant comes after its use");
    }
    if ((w[0] & 0xffff) == 4457) CHECK(value_of(khr, m, w[4]) <= 1 && value_of(khr, m, w[5]) == 99, "a load with layout %u", value_of(khr, m, w[4]));
    if ((w[0] & 0xffff) == 4458) CHECK(value_of(khr, m, w[3]) == 0, "a store with layout %u", value_of(khr, m, w[3]));
  }
  CHECK(named, "the extension is not named");
  /* loads by rows and by columns, as in the original */
  int by_column = 0, by_row = 0;
  for (size_t i = 5; i < m; i += khr[i] >> 16)
    if ((khr[i] & 0xffff) == 4457) value_of(khr, m, khr[i + 4]) == 1 ? by_column++ : by_row++;
  CHECK(by_column == 2 && by_row == 2, "%d loads by columns, %d by rows", by_column, by_row);
  /* what is not such a module, or too long, is refused */
  CHECK(nn_vk_coopmat_patch(nv, n, khr, n) == 0, "no room, and yet");
  CHECK(nn_vk_coopmat_patch(nv, 6, khr, MOST) == 0, "cut off, and yet");
  CHECK(nn_vk_coopmat_patch(nv + 1, n - 1, khr, MOST) == 0, "no magic number, and yet");
}

static void check_listed(void) {
  nn_vk_coopmat list[] = {{16, 8, 16, 0, 0, 1, 1, 0, 3}, {16, 16, 16, 0, 0, 0, 0, 0, 3}, {16, 16, 16, 0, 0, 1, 1, 0, 2}, {16, 16, 16, 0, 0, 1, 1, 1, 3},
                          {16, 16, 32, 3, 3, 5, 5, 0, 3}, {16, 16, 16, 0, 0, 1, 1, 0, 3}};
  CHECK(!nn_vk_coopmat_listed(list, 0), "an empty list");
  CHECK(!nn_vk_coopmat_listed(list, 5), "sums in f16, another scope, other sizes, saturation");
  CHECK(nn_vk_coopmat_listed(list, 6), "16x16x16 of f16 with sums in f32");
}

/* Every piece of a tile is made by one subgroup. */
static void check_tile(void) {
  static const uint32_t lanes[] = {32, 64};
  static const uint64_t sizes[][2] = {{16, 16}, {64, 300}, {512, 512}, {8192, 8192}};
  nn_vk_cooptile t;
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < NNI_COUNT(sizes); k++) {
      CHECK(nn_vk_coopmat_tile(lanes[i], sizes[k][0], sizes[k][1], &t), "no tile");
      CHECK(t.m / t.wm * (t.n / t.wn) == t.subgroups && t.m % t.wm == 0 && t.n % t.wn == 0 && t.wm % 16 == 0 && t.wn % 16 == 0 && t.k % 16 == 0, "a bad tile");
      CHECK(t.subgroups * lanes[i] <= 256, "%u invocations", t.subgroups * lanes[i]);
    }
  CHECK(!nn_vk_coopmat_tile(8, 512, 512, &t) && !nn_vk_coopmat_tile(16, 512, 512, &t) && !nn_vk_coopmat_tile(32, 8, 512, &t), "a tile where there is none");
}

static void check_aligned(void) {
  const struct { int64_t shape[3], stride[3]; uint32_t from; bool good; } c[] = {
      {{1, 64, 32}, {2048, 32, 1}, 0, true},  {{1, 63, 32}, {2016, 32, 1}, 8, true},   {{1, 64, 30}, {1920, 30, 1}, 0, false}, {{1, 64, 24}, {1920, 30, 1}, 0, false},
      {{1, 64, 32}, {2048, 1, 64}, 0, true},  {{1, 60, 32}, {2048, 1, 64}, 0, false},  {{1, 64, 32}, {2048, 32, 1}, 4, false}, {{3, 64, 32}, {2048, 32, 1}, 0, true},
      {{3, 64, 32}, {2052, 32, 1}, 0, false}, {{3, 64, 32}, {0, 32, 1}, 0, true}};
  for (int i = 0; i < NNI_COUNT(c); i++) {
    const nni_operand o = {.dtype = NN_F16, .ndim = 3, .shape = c[i].shape, .stride = c[i].stride};
    CHECK(nn_vk_coopmat_aligned(&o, c[i].from) == c[i].good, "operand %d", i);
  }
}

int main(void) {
  check_patch();
  check_listed();
  check_tile();
  check_aligned();
  printf("test_vulkan_coopmat: %d checks, %d failures\n", checks, failures);
  return failures != 0;
}
