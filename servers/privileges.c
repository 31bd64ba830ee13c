// Groups first: whoever has given up the user's number may not change them any more.
#include "privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

int privileges_find(const char *name, struct privileges *ret_privileges)
{
    struct privileges privileges = { .groups_count = PRIVILEGES_GROUPS_MAX };
    struct passwd entry, *found;
    char text[16384];
    int error = getpwnam_r(name, &entry, text, sizeof text, &found);
    if (error || !found)
        return error ? -error : -ENOENT;
    privileges.user = entry.pw_uid;
    privileges.group = entry.pw_gid;
    // UNTESTED: needs a user in more groups than there is room for
    if (getgrouplist(name, entry.pw_gid, privileges.groups, &privileges.groups_count) < 0)
        return -E2BIG;
    *ret_privileges = privileges;
    return 0;
}

int privileges_chroot(const char *folder)
{
    return chroot(folder) || chdir("/") ? -errno : 0;
}

static int privileges_verify(const struct privileges *privileges)
{
    uid_t user, user_effective, user_saved;
    gid_t group, group_effective, group_saved;
    getresuid(&user, &user_effective, &user_saved);
    getresgid(&group, &group_effective, &group_saved);
    // UNTESTED: kernels do what they say
    if (user != privileges->user || user_effective != user || user_saved != user ||
        group != privileges->group || group_effective != group || group_saved != group)
        return -EPERM;
    // The way back must be closed.
    return privileges->user && setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ? -EPERM : 0;
}

int privileges_drop(const struct privileges *privileges)
{
    const uid_t user = privileges->user;
    const gid_t group = privileges->group;
    // Who already is that user, and nobody else, has nothing to give up and may not set groups.
    // UNTESTED: needs a start by that user itself
    if (geteuid() == user && user != 0)
        return privileges_verify(privileges);
    // UNTESTED: root may become anybody
    if (setgroups((size_t)privileges->groups_count, privileges->groups) < 0 ||
        setresgid(group, group, group) < 0 || setresuid(user, user, user) < 0)
        return -errno;
    return privileges_verify(privileges);
}
