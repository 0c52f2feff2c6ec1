/* list -- doubly linked, the links inside the members; the collector sees through it. */
#ifndef EBB_LIST_H
#define EBB_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_list {
    struct ebb_list *next,
        *previous; /* a head points at itself when empty; a member off any list has NULLs */
};

#define EBB_LIST_INIT(head)                                                                        \
    { &(head), &(head) }

static inline void ebb_list_init(struct ebb_list *head) {
    head->next = head->previous = head;
}

static inline bool ebb_list_empty(const struct ebb_list *head) {
    return head->next == head;
}

static inline void ebb_list_append(struct ebb_list *head, struct ebb_list *member) {
    member->next = head;
    member->previous = head->previous;
    head->previous->next = member;
    head->previous = member;
}

static inline void ebb_list_prepend(struct ebb_list *head, struct ebb_list *member) {
    ebb_list_append(head->next, member);
}

static inline void ebb_list_remove(struct ebb_list *member) {
    if (member->next == NULL)
        return;
    member->next->previous = member->previous;
    member->previous->next = member->next;
    member->next = member->previous = NULL;
}

#define EBB_LIST_ENTRY(link, type, field) ((type *)(void *)((char *)(link)-offsetof(type, field)))

/* The next link is read before the body runs, so the body may remove its member. */
#define EBB_LIST_EACH(head, link)                                                                  \
    for (struct ebb_list *link = (head)->next, *link##_next = link->next; link != (head);          \
         link = link##_next, link##_next = link->next)

__END_DECLS

#endif
