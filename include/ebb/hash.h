/* hash -- xxh3 with a seed, so that a peer cannot choose keys that collide. */
#ifndef EBB_HASH_H
#define EBB_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

uint64_t ebb_hash(const void *bytes, size_t length, uint64_t seed);

/* A seed from the kernel (getrandom); never fails. */
uint64_t ebb_hash_seed(void);

__END_DECLS

#endif
