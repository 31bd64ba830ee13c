// What differs between two runs by its nature, taken out of what a client was told.
#ifndef DIFFERENTIAL_NORMAL_H
#define DIFFERENTIAL_NORMAL_H

#include "stage.h"

// HTTP's dates and FTP's ports.
void normal_add_control(struct text *text, const struct text *told);
// Lines of a listing, sorted, since a directory has no order: without the times of last change, the
// numbers of inodes and of users, and the sizes of directories.
void normal_add_lines(struct text *text, const struct text *told);

#endif
