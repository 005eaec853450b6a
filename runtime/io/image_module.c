/* io/image_module.c - the module nn_image: the only file that includes libjpeg's and libpng's headers.
**
** Exports nn_image_codecs (image.h). Uses nothing of libnn, so that it loads beside any way of linking it. Pure functions, any thread.
**
** Both libraries report errors through a function that must not return, so setjmp and longjmp are used here, and only here: a jump crosses nothing
** but the library's own frames and callbacks of this file, back to `guarded`, whose caller owns what must be freed: no local variable of the
** function that calls setjmp is left in doubt.
*/
#include <setjmp.h>
#include <stdio.h>
#include "image.h"

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

/* Most pixels that a byte of a file can stand for: a JPEG block of 64 takes a bit at least (a component of a scan), deflate makes at most 1032 of one. */
#define JPEG_DENSITY 512
#define PNG_DENSITY 1040
#define JPEG_SCANS 200 /* a progressive file has about ten; each costs as much as the whole image */

/* ---- JPEG --------------------------------------------------------------------------------------------------------------------------- */

typedef struct jpeg_state {
  struct jpeg_error_mgr err;
  struct jpeg_progress_mgr progress;
  struct jpeg_destination_mgr dest;
  jmp_buf jump;
  nni_image_job *job;
  struct jpeg_decompress_struct in;
  struct jpeg_compress_struct out;
  JOCTET piece[16384];
} jpeg_state;

static bool jpeg_guarded(jpeg_state *s, void (*body)(jpeg_state *s)) {
  if (setjmp(s->jump)) return false;
  body(s);
  return true;
}

static void jpeg_fail(j_common_ptr info) {
  jpeg_state *s = (jpeg_state *)info->err;
  char text[JMSG_LENGTH_MAX];
  if (s->job->text[0] == 0) {
    info->err->format_message(info, text);
    snprintf(s->job->text, sizeof s->job->text, "%.*s", (int)sizeof s->job->text - 1, text);
  }
  longjmp(s->jump, 1);
}

/* A warning is a damaged file that the library would go on with. Those that leave pixels without data are errors here. */
static void jpeg_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  const int code = info->err->msg_code;
  if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) {
    jpeg_state *s = (jpeg_state *)info->err;
    snprintf(s->job->text, sizeof s->job->text, "%s", code == JWRN_JPEG_EOF ? "the file ends early" : "damaged data");
    longjmp(s->jump, 1);
  }
  info->err->num_warnings++;
}

static void jpeg_silent(j_common_ptr info) { (void)info; }

static void jpeg_watch(j_common_ptr info) {
  jpeg_state *s = (jpeg_state *)info->err;
  if (!info->is_decompressor || ((j_decompress_ptr)info)->input_scan_number <= JPEG_SCANS) return;
  snprintf(s->job->text, sizeof s->job->text, "more than %d scans", JPEG_SCANS);
  longjmp(s->jump, 1);
}

static void jpeg_start(jpeg_state *s, nni_image_job *job) {
  s->job = job;
  memset(&s->in, 0, sizeof s->in);
  memset(&s->out, 0, sizeof s->out);
  jpeg_std_error(&s->err);
  s->err.error_exit = jpeg_fail;
  s->err.emit_message = jpeg_message;
  s->err.output_message = jpeg_silent;
  s->progress.progress_monitor = jpeg_watch;
}

/* The largest reduction by 1, 2, 4, 8 that keeps both sides at or above what is wanted. */
static unsigned reduction(const nni_image_want *w, unsigned height, unsigned width) {
  unsigned by = 8;
  if (w->height <= 0 || w->width <= 0) return 1;
  while (by > 1 && ((height + by - 1) / by < (unsigned)w->height || (width + by - 1) / by < (unsigned)w->width)) by /= 2;
  return by;
}

/* Adobe's CMYK is stored inverted: 255 is no ink. */
static void rgb_of_cmyk(const uint8_t *from, uint8_t *to, size_t width, bool inverted) {
  for (size_t i = 0; i < width; i++, from += 4, to += 3)
    for (int c = 0; c < 3; c++) {
      const int ink = inverted ? from[c] : 255 - from[c], key = inverted ? from[3] : 255 - from[3];
      to[c] = (uint8_t)((ink * key + 127) / 255);
    }
}

static void jpeg_read(jpeg_state *s) {
  struct jpeg_decompress_struct *d = &s->in;
  nni_image_job *job = s->job;
  jpeg_create_decompress(d);
  jpeg_mem_src(d, job->file, (unsigned long)job->n);
  jpeg_read_header(d, TRUE);
  d->progress = &s->progress;
  const uint64_t pixels = (uint64_t)d->image_height * d->image_width;
  if (pixels > (uint64_t)NNI_IMAGE_PIXELS || pixels / JPEG_DENSITY > job->n) {
    snprintf(job->text, sizeof job->text, "declares %u x %u pixels, more than %zu bytes can hold", d->image_height, d->image_width, job->n);
    longjmp(s->jump, 1);
  }
  const bool four = d->jpeg_color_space == JCS_CMYK || d->jpeg_color_space == JCS_YCCK;
  const bool gray = !four && (job->want.channels == 1 || (job->want.channels == 0 && d->num_components == 1));
  d->out_color_space = four ? JCS_CMYK : gray && (d->num_components == 1 || d->jpeg_color_space == JCS_YCbCr) ? JCS_GRAYSCALE : JCS_RGB;
  d->scale_num = 1;
  d->scale_denom = reduction(&job->want, d->image_height, d->image_width);
  jpeg_start_decompress(d);
  const int channels = d->out_color_space == JCS_GRAYSCALE ? 1 : 3;
  uint8_t *to = job->get(job->ud, d->output_height, d->output_width, channels, 8);
  if (to == NULL) {
    job->stopped = true;
    longjmp(s->jump, 1);
  }
  uint8_t *cmyk = NULL;
  if (four) cmyk = (*d->mem->alloc_large)((j_common_ptr)d, JPOOL_IMAGE, (size_t)d->output_width * 4);
  const size_t stride = (size_t)d->output_width * (size_t)channels;
  while (d->output_scanline < d->output_height) {
    JSAMPROW rows[4];
    if (four) {
      rows[0] = cmyk;
      uint8_t *at = to + d->output_scanline * stride;
      if (jpeg_read_scanlines(d, rows, 1) == 1) rgb_of_cmyk(cmyk, at, d->output_width, d->saw_Adobe_marker);
      continue;
    }
    JDIMENSION left = d->output_height - d->output_scanline, n = left < 4 ? left : 4;
    for (JDIMENSION i = 0; i < n; i++) rows[i] = to + (d->output_scanline + i) * stride;
    jpeg_read_scanlines(d, rows, n);
  }
  jpeg_finish_decompress(d);
}

static bool jpeg_decode(nni_image_job *job) {
  jpeg_state s;
  jpeg_start(&s, job);
  s.in.err = &s.err;
  const bool ok = jpeg_guarded(&s, jpeg_read);
  jpeg_destroy_decompress(&s.in);
  return ok;
}

static void dest_begin(j_compress_ptr c) {
  jpeg_state *s = (jpeg_state *)c->err;
  s->dest.next_output_byte = s->piece;
  s->dest.free_in_buffer = sizeof s->piece;
}

static void dest_put(jpeg_state *s, size_t n) {
  if (n == 0 || s->job->put(s->job->ud, s->piece, n)) return;
  s->job->stopped = true;
  longjmp(s->jump, 1);
}

static boolean dest_full(j_compress_ptr c) {
  jpeg_state *s = (jpeg_state *)c->err;
  dest_put(s, sizeof s->piece);
  dest_begin(c);
  return TRUE;
}

static void dest_end(j_compress_ptr c) {
  jpeg_state *s = (jpeg_state *)c->err;
  dest_put(s, sizeof s->piece - s->dest.free_in_buffer);
}

static void jpeg_write(jpeg_state *s) {
  struct jpeg_compress_struct *c = &s->out;
  const nni_image_job *job = s->job;
  jpeg_create_compress(c);
  s->dest = (struct jpeg_destination_mgr){.init_destination = dest_begin, .empty_output_buffer = dest_full, .term_destination = dest_end};
  c->dest = &s->dest;
  c->image_height = (JDIMENSION)job->height;
  c->image_width = (JDIMENSION)job->width;
  c->input_components = job->channels;
  c->in_color_space = job->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(c);
  jpeg_set_quality(c, job->quality, TRUE);
  jpeg_start_compress(c, TRUE);
  while (c->next_scanline < c->image_height) {
    const size_t at = (size_t)c->next_scanline * (size_t)job->width * (size_t)job->channels;
    union { const uint8_t *from; JSAMPROW row; } u = {.from = (const uint8_t *)job->pixels + at}; /* libjpeg's type lacks const; it only reads */
    jpeg_write_scanlines(c, &u.row, 1);
  }
  jpeg_finish_compress(c);
}

static bool jpeg_encode(nni_image_job *job) {
  jpeg_state s;
  jpeg_start(&s, job);
  s.out.err = &s.err;
  const bool ok = jpeg_guarded(&s, jpeg_write);
  jpeg_destroy_compress(&s.out);
  return ok;
}

/* ---- PNG ---------------------------------------------------------------------------------------------------------------------------- */

typedef struct png_state {
  jmp_buf jump;
  nni_image_job *job;
  size_t at; /* bytes of the file that were read */
  png_structp png;
  png_infop info;
} png_state;

static bool png_guarded(png_state *s, void (*body)(png_state *s)) {
  if (setjmp(s->jump)) return false;
  body(s);
  return true;
}

static void png_stop(png_state *s, const char *text) {
  if (s->job->text[0] == 0) snprintf(s->job->text, sizeof s->job->text, "%s", text);
  longjmp(s->jump, 1);
}

static void png_fail(png_structp png, png_const_charp text) {
  png_stop(png_get_error_ptr(png), text);
}

static void png_quiet(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void png_take(png_structp png, png_bytep to, size_t n) {
  png_state *s = png_get_io_ptr(png);
  if (n > s->job->n - s->at) png_error(png, "the file ends early");
  memcpy(to, s->job->file + s->at, n);
  s->at += n;
}

static void png_give(png_structp png, png_bytep p, size_t n) {
  png_state *s = png_get_io_ptr(png);
  if (s->job->put(s->job->ud, p, n)) return;
  s->job->stopped = true;
  longjmp(s->jump, 1);
}

static void png_flush_nothing(png_structp png) { (void)png; }

/* Samples of 8 bits, or of 16 in the machine's order; palettes and fewer bits expanded; transparency by a colour becomes alpha. */
static int png_set_up(png_state *s) {
  const nni_image_want *want = &s->job->want;
  const int type = png_get_color_type(s->png, s->info), bits = png_get_bit_depth(s->png, s->info);
  const bool wide = want->depth == 16 && bits == 16;
  png_set_expand(s->png);
  if (bits == 16 && !wide) png_set_scale_16(s->png);
  if (wide) png_set_swap(s->png);
  if (want->channels == 1 || want->channels == 3) png_set_strip_alpha(s->png);
  if (want->channels == 3 && (type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(s->png);
  return wide ? 16 : 8;
}

static void png_load(png_state *s) {
  nni_image_job *job = s->job;
  png_set_user_limits(s->png, 1u << 28, 1u << 28);
  png_set_chunk_malloc_max(s->png, 1 << 20);
  png_set_chunk_cache_max(s->png, 100);
  /* All but IHDR, PLTE, tRNS, IDAT and IEND is passed over: what libpng would keep of texts and profiles it allocates on the file's word alone. */
  png_set_keep_unknown_chunks(s->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
  png_read_info(s->png, s->info);
  const uint32_t h = png_get_image_height(s->png, s->info), w = png_get_image_width(s->png, s->info);
  if ((uint64_t)h * w > (uint64_t)NNI_IMAGE_PIXELS || (uint64_t)h * (png_get_rowbytes(s->png, s->info) + 1) / PNG_DENSITY > job->n) {
    snprintf(job->text, sizeof job->text, "declares %u x %u pixels, more than %zu bytes can hold", h, w, job->n);
    longjmp(s->jump, 1);
  }
  const int depth = png_set_up(s), passes = png_set_interlace_handling(s->png);
  png_read_update_info(s->png, s->info);
  const int channels = png_get_channels(s->png, s->info);
  uint8_t *to = job->get(job->ud, h, w, channels, depth);
  if (to == NULL) {
    job->stopped = true;
    longjmp(s->jump, 1);
  }
  const size_t stride = png_get_rowbytes(s->png, s->info);
  for (int pass = 0; pass < passes; pass++)
    for (uint32_t y = 0; y < h; y++) png_read_row(s->png, to + y * stride, NULL);
  png_read_end(s->png, NULL);
}

static void png_read_all(png_state *s) {
  s->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, s, png_fail, png_quiet);
  s->info = s->png != NULL ? png_create_info_struct(s->png) : NULL;
  if (s->info == NULL) png_stop(s, "out of memory");
  png_set_read_fn(s->png, s, png_take);
  png_load(s);
}

static bool png_decode(nni_image_job *job) {
  png_state s = {.job = job};
  const bool ok = png_guarded(&s, png_read_all);
  png_destroy_read_struct(&s.png, &s.info, NULL);
  return ok;
}

static void png_store(png_state *s) {
  static const int types[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA};
  const nni_image_job *job = s->job;
  png_set_user_limits(s->png, 1u << 28, 1u << 28);
  png_set_IHDR(s->png, s->info, (png_uint_32)job->width, (png_uint_32)job->height, job->depth, types[job->channels], PNG_INTERLACE_NONE,
    PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(s->png, s->info);
  if (job->depth == 16) png_set_swap(s->png);
  const size_t stride = (size_t)job->width * (size_t)job->channels * (size_t)(job->depth / 8);
  for (int32_t y = 0; y < job->height; y++) png_write_row(s->png, (png_const_bytep)job->pixels + (size_t)y * stride);
  png_write_end(s->png, NULL);
}

static void png_write_all(png_state *s) {
  s->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, s, png_fail, png_quiet);
  s->info = s->png != NULL ? png_create_info_struct(s->png) : NULL;
  if (s->info == NULL) png_stop(s, "out of memory");
  png_set_write_fn(s->png, s, png_give, png_flush_nothing);
  png_store(s);
}

static bool png_encode(nni_image_job *job) {
  png_state s = {.job = job};
  const bool ok = png_guarded(&s, png_write_all);
  png_destroy_write_struct(&s.png, &s.info);
  return ok;
}

extern __attribute__((visibility("default"))) const nni_image_module nn_image_codecs;
const nni_image_module nn_image_codecs = {
  .abi = NNI_IMAGE_ABI, .jpeg_decode = jpeg_decode, .jpeg_encode = jpeg_encode, .png_decode = png_decode, .png_encode = png_encode};
