/* io/beside.h - where the parts of nnlua lie that are not linked into it: modules that are loaded, programs that are started. */
#ifndef NNI_BESIDE_H
#define NNI_BESIDE_H
#include <stdbool.h>
#include <stddef.h>

/* The path of a file that lies beside libnn, in the folder nnlua there, or, where libnn is linked into a program, beside it or in ../lib (and
** its folder nnlua). False when it is in none of these. Nothing but these is looked at: no environment variable, no search path. */
bool nni_find_beside(const char *name, char *path, size_t size);

#endif
