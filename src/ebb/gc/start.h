/* start -- what the system refuses below the layer that returns errors, while a program starts. */
#ifndef EBBI_GC_START_H
#define EBBI_GC_START_H

#define EBBI_MEMORY_REMEDY "see ulimit -v and ulimit -d, LimitAS= and LimitDATA= of the service"

/* collector.c: fn ends the program with the sentence of ebb_err_text, and does not return. NULL, as
 * at first: there is no such end. */
void ebbi_start_refusal_set(void (*fn)(void));
/* With ebb_err_set before it. Returns where the program has started: then it is a panic. */
void ebbi_start_refuse(void);

#endif
