/* open -- opening a path as root without being led elsewhere; for the library's own files. */
#ifndef EBBI_BASE_OPEN_H
#define EBBI_BASE_OPEN_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

/* As open(2), close-on-exec. As root, no symbolic link is followed below a folder that another user
 * may write to (errno ELOOP), and no file with a second name is opened there (EMLINK). */
int ebbi_open(const char *path, int flags, mode_t mode);
/* As fopen(path, "r"), with the same care. */
FILE *ebbi_open_stream(const char *path);

/* The folder that the path's last word stands in, for the calls that end in "at"; word (PATH_MAX
 * bytes) is that word, or "." for a path that names a folder. *way_exposed: another user may change
 * where the path to the folder leads. -1 and errno as ebbi_open. */
int ebbi_open_folder(const char *path, char *word, bool *way_exposed);

/* The path as it is after a change of the working folder; as given where that is unknown. */
void ebbi_absolute(const char *path, char *out, size_t size);

/* Whether this thread's files are root's: its user ids are 0, and no ebb_files_as is in force. */
bool ebbi_acts_as_root(void);

#endif
