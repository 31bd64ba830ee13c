// See users.h.
#include "users.h"

#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS_LINE_MAX = 4096 };

static void users_clear(struct ftp_user *user)
{
    free(user->name);
    free(user->secret);
    free(user->home);
}

void ftp_users_fini(struct ftp_users *users)
{
    for (size_t i = 0; i < users->count; i++)
        users_clear(&users->rows[i]);
    free(users->rows);
    *users = (struct ftp_users){ 0 };
}

const struct ftp_user *ftp_users_find(const struct ftp_users *users, const char *name)
{
    for (size_t i = 0; i < users->count; i++) {
        if (!strcmp(users->rows[i].name, name))
            return &users->rows[i];
    }
    return NULL;
}

// The fields of the text, on the heap.
static int users_split(const char *text, struct ftp_user *ret_user)
{
    size_t name = strcspn(text, ":");
    if (!name || !text[name])
        return -EINVAL;
    const char *secret = text + name + 1;
    ret_user->plain = !strncmp(secret, "plain:", 6);
    if (ret_user->plain)
        secret += 6;
    // A password may hold colons, a hash has none.
    size_t size = ret_user->plain ? strlen(secret) : strcspn(secret, ":");
    ret_user->name = strndup(text, name);
    ret_user->secret = strndup(secret, size);
    ret_user->home = strdup(secret[size] ? secret + size + 1 : "");
    return ret_user->name && ret_user->secret && ret_user->home ? 0 : -ENOMEM;
}

// Legacy methods are refused: DES alone would take any text for a hash.
static bool users_hash_works(const char *hash)
{
    return *hash == '$' && crypt_checksalt(hash) == CRYPT_SALT_OK;
}

int ftp_users_add(struct ftp_users *users, const char *text)
{
    struct ftp_user user = { 0 };
    int error = users_split(text, &user);
    if (!error && !user.plain && !users_hash_works(user.secret))
        error = -EINVAL;
    if (!error && ftp_users_find(users, user.name))
        error = -EEXIST;
    if (error)
        goto clear;
    struct ftp_user *rows = realloc(users->rows, (users->count + 1) * sizeof *rows);
    if (!rows) {
        error = -ENOMEM;
        goto clear;
    }
    rows[users->count++] = user;
    users->rows = rows;
    users->plain |= user.plain;
    return 0;
clear:
    users_clear(&user);
    return error;
}

int ftp_users_load(struct ftp_users *users, const char *path, size_t *ret_line)
{
    char line[USERS_LINE_MAX];
    FILE *file = fopen(path, "re");
    int error = 0;
    *ret_line = 0;
    if (!file)
        return -errno;
    while (!error && fgets(line, sizeof line, file)) {
        ++*ret_line;
        if (!strchr(line, '\n') && !feof(file))
            error = -EINVAL;
        line[strcspn(line, "\r\n")] = '\0';
        if (!error && *line && *line != '#')
            error = ftp_users_add(users, line);
    }
    if (ferror(file)) {
        *ret_line = 0;
        error = -EIO;
    }
    fclose(file);
    return error;
}

// Looks at every byte, so that the time does not tell how much was right.
static bool users_equal(const char *secret, const char *given)
{
    size_t size = strlen(given);
    unsigned char difference = strlen(secret) != size;
    for (size_t i = 0, k = 0; i < size; i++) {
        difference |= (unsigned char)(secret[k] ^ given[i]);
        k += secret[k] != '\0';
    }
    return !difference;
}

int ftp_users_verify(const struct ftp_users *users, const struct ftp_user *user,
                     const char *password)
{
    const struct ftp_user *asked = user ? user : users->count ? &users->rows[0] : NULL;
    if (!asked)
        return 0;
    if (asked->plain)
        return user && users_equal(asked->secret, password);
    struct crypt_data *data = calloc(1, sizeof *data);
    if (!data)
        return -ENOMEM;
    const char *hash = crypt_r(password, asked->secret, data);
    int known = user && hash && *hash != '*' && users_equal(asked->secret, hash);
    explicit_bzero(data, sizeof *data);
    free(data);
    return known;
}

char *ftp_users_hash(const char *password)
{
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    struct crypt_data *data = calloc(1, sizeof *data);
    char *result = NULL;
    if (data && crypt_gensalt_rn("$y$", 0, NULL, 0, salt, sizeof salt)) {
        const char *hash = crypt_r(password, salt, data);
        if (hash && *hash != '*')
            result = strdup(hash);
    }
    if (data)
        explicit_bzero(data, sizeof *data);
    free(data);
    return result;
}
