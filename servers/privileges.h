// Another root folder, and the privileges of an ordinary user.
#ifndef PRIVILEGES_H
#define PRIVILEGES_H

#include <stddef.h>
#include <sys/types.h>

enum { PRIVILEGES_GROUPS_MAX = 128 };

struct privileges {
    uid_t user;
    gid_t group, groups[PRIVILEGES_GROUPS_MAX];
    int groups_count;
};

// Looks the user up in the system's database. -ENOENT: there is none; -E2BIG: in too many groups.
int privileges_find(const char *name, struct privileges *ret_privileges);

// Makes the folder the process's root, and the current folder. -errno of chroot(2).
int privileges_chroot(const char *folder);

// Takes the user's groups, group and number, and verifies that the old ones are gone. -EPERM:
// this process may not, or could go back.
int privileges_drop(const struct privileges *privileges);

#endif
