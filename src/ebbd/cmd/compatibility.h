/* compatibility -- what the daemon speaks, as a page of docs/. */
#ifndef EBBD_CMD_COMPATIBILITY_H
#define EBBD_CMD_COMPATIBILITY_H

#include <ebb/writer.h>

/* Writes docs/compatibility.md. */
void compatibility_write(struct ebb_writer *writer);

#endif
