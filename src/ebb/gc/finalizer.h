/* finalizer -- a last word for an object that was forgotten. Only for alarms, never for promptness.
 */
#ifndef EBBI_FINALIZER_H
#define EBBI_FINALIZER_H

/* Calls fn(object) from ebb_finalizers_run once object became unreachable; cycles are no obstacle,
 * there is no order. object is what ebb_new returned. It stays readable until fn has returned. */
void ebbi_finalizer_set(void *object, void (*fn)(void *object));
void ebbi_finalizer_clear(void *object);

#endif
