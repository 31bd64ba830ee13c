// Virtual users: names, salted hashes (crypt(3)) and home directories. They are no users of the
// system, and are read once, at start.
#ifndef FTP_USERS_H
#define FTP_USERS_H

#include <stdbool.h>
#include <stddef.h>

struct ftp_user {
    char *name;
    char *secret; // a hash, or the password itself
    char *home;   // below the root, "" for the root
    bool plain;
};

struct ftp_users {
    struct ftp_user *rows;
    size_t count;
    bool plain; // one of them has its password in the clear
};

// Adds "NAME:HASH", "NAME:HASH:HOME" or "NAME:plain:PASSWORD". -EINVAL: not of that form, or
// crypt(3) cannot use the hash; -EEXIST: the name is there already; -ENOMEM.
int ftp_users_add(struct ftp_users *users, const char *text);

// Adds the lines of a file; empty ones and those that begin with # do not count. ret_line is the
// number of the line that was refused, or 0 when the file could not be read.
int ftp_users_load(struct ftp_users *users, const char *path, size_t *ret_line);
void ftp_users_fini(struct ftp_users *users);

const struct ftp_user *ftp_users_find(const struct ftp_users *users, const char *name);

// Whether the password is the user's. For an unknown user (NULL) it takes as long as for one that
// is known, and is false. A hash takes tens of milliseconds of CPU: in a job. -ENOMEM, or 0 or 1.
int ftp_users_verify(const struct ftp_users *users, const struct ftp_user *user,
                     const char *password);

// A new hash with a random salt, for the heap. NULL when the system cannot make one.
char *ftp_users_hash(const char *password);

#endif
