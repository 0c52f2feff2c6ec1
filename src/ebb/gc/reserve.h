/* reserve -- memory kept for small objects when the system gives no more; see reserve.c. */
#ifndef EBBI_GC_RESERVE_H
#define EBBI_GC_RESERVE_H

#include <ebb/mem.h>

/* Who needs an object. */
enum ebbi_need {
    NEED_CAN_WAIT, /* it may be refused: ebb_try_* */
    NEED_LIBRARY,  /* refused only when there is nothing left */
    NEED_NOW,      /* a panic when it is refused: ebb_new_* */
    NEED_RESERVE,  /* the reserve itself */
};

void ebbi_reserve_start(void);
/* The collector has no memory for an object. When: without the allocation lock. */
void ebbi_reserve_refused(void);
/* Before an object of this size is taken. False: it is large, and the reserve comes first. */
bool ebbi_reserve_allows(const struct ebb_type *type, size_t size, enum ebbi_need need);
/* The collector has refused it. True: there is more memory now, try again. */
bool ebbi_reserve_open(const struct ebb_type *type, size_t size, enum ebbi_need need);

/* Logs that the reserve was opened. When: between iterations of a loop that runs; a start that is
 * refused for want of memory says that alone. */
void ebbi_reserve_tell(void);

/* mem.c: an object for the reserve, or NULL; and its end, at once. */
void *ebbi_reserve_piece(size_t size);
void ebbi_reserve_piece_free(void *piece);

#endif
