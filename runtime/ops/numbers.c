/* ops/numbers.c - the formulas of pointwise.def over plain doubles: what gradients compute from numbers alone, and what the kernels are
** tested against. Masks are 1 or 0.
*/
#include <math.h>
#include "ops.h"

static double mod(double a, double b) {
  double r = fmod(a, b);
  if (r != 0) return (r < 0) != (b < 0) ? r + b : r;
  return copysign(0, b);
}
static double floor_div(double a, double b) {
  double r = fmod(a, b), q = (a - r) / b;
  if (b == 0) return a / b;
  if (r != 0 && (r < 0) != (b < 0)) q -= 1;
  return copysign(rint(q), a / b);
}
static double min(double a, double b) { return a != a ? a : b != b || b < a ? b : a; }
static double max(double a, double b) { return a != a ? a : b != b || b > a ? b : a; }
static int64_t whole(double a) { return a != a ? 0 : a >= 0x1p63 ? INT64_MAX : a < -0x1p63 ? INT64_MIN : (int64_t)a; }
static double shift_left(double a, double n) { return n < 0 || n > 63 ? 0 : (double)(int64_t)((uint64_t)whole(a) << whole(n)); }
static double shift_right(double a, double n) { return (double)(whole(a) >> (n < 0 || n > 63 ? 63 : whole(n))); }

#define K(c) ((double)(c))
#define ADD(p, q) ((p) + (q))
#define SUB(p, q) ((p) - (q))
#define MUL(p, q) ((p) * (q))
#define DIV(p, q) ((p) / (q))
#define POW(p, q) pow(p, q)
#define MIN(p, q) min(p, q)
#define MAX(p, q) max(p, q)
#define FMOD(p, q) fmod(p, q)
#define MOD(p, q) mod(p, q)
#define FLOORDIV(p, q) floor_div(p, q)
#define LT(p, q) ((p) < (q))
#define LE(p, q) ((p) <= (q))
#define GT(p, q) ((p) > (q))
#define GE(p, q) ((p) >= (q))
#define EQ(p, q) ((p) == (q))
#define NE(p, q) ((p) != (q))
#define AND(p, q) ((p) != 0 && (q) != 0)
#define OR(p, q) ((p) != 0 || (q) != 0)
#define XOR(p, q) (((p) != 0) != ((q) != 0))
#define NOT(p) ((p) == 0)
#define BAND(p, q) ((double)(whole(p) & whole(q)))
#define BOR(p, q) ((double)(whole(p) | whole(q)))
#define BXOR(p, q) ((double)(whole(p) ^ whole(q)))
#define BNOT(p) ((double)~whole(p))
#define SHL(p, q) shift_left(p, q)
#define SHR(p, q) shift_right(p, q)
#define NEG(p) (-(p))
#define ABS(p) fabs(p)
#define SQRT(p) sqrt(p)
#define EXP(p) exp(p)
#define EXPM1(p) expm1(p)
#define LOG(p) log(p)
#define LOG1P(p) log1p(p)
#define LOG2(p) log2(p)
#define LOG10(p) log10(p)
#define SIN(p) sin(p)
#define COS(p) cos(p)
#define ATAN2(p, q) atan2(p, q)
#define TANH(p) tanh(p)
#define ERF(p) erf(p)
#define ERFC(p) erfc(p)
#define FLOOR(p) floor(p)
#define CEIL(p) ceil(p)
#define RINT(p) rint(p)
#define TRUNC(p) trunc(p)
#define SEL(m, p, q) ((m) != 0 ? (p) : (q))

#define NN_PW(name, type, sig, n, doc, formula, ...)          \
  static double number_##name(double a, double b, double c) { \
    (void)a, (void)b, (void)c;                                \
    return formula;                                           \
  }
#include "pointwise.def"
#undef NN_PW

const nni_number_fn nni_numbers[NNI_NPW] = {
#define NN_PW(name, ...) number_##name,
#include "pointwise.def"
#undef NN_PW
};
