// FTP: a tree that everybody finds the same, and the server for its scripts.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <servers/ftp/transfer.h>

#include "../sim/calls.h"
#include "script.h"

enum { FTP_LARGE_SIZE = 300000, FTP_LARGE = 33 };

static struct ftp_server ftp;

static void ftp_make_files(struct stage *stage)
{
    static const char small[] = "This is small.\n", lines[] = "one\ntwo\r\n\nthree";
    stage_make(stage, "outside.txt", small, strlen(small));
    stage_make(stage, "srv/small.txt", small, strlen(small));
    stage_make(stage, "srv/lines.txt", lines, strlen(lines));
    stage_make(stage, "srv/empty.bin", "", 0);
    stage_make(stage, "srv/large.bin", pattern_at(FTP_LARGE, 0), FTP_LARGE_SIZE);
    stage_make(stage, "srv/dir/inner.txt", small, strlen(small));
    stage_make(stage, "srv/dir/sub/", NULL, 0);
    stage_make(stage, "srv/.hidden", small, strlen(small));
}

static void ftp_start(struct stage *stage, struct weir_address *ret_address)
{
    char root[160];
    ftp_make_files(stage);
    ftp = (struct ftp_server){ .passive_first = stage->sim ? 40000 : 0,
                               .passive_last = stage->sim ? 60999 : 0,
                               .sessions_max = 1000,
                               .login_delay_ns = 1000000,
                               .allow_active = true,
                               .log = { .fd = -1 },
                               .events = { .fd = -1 } };
    pthread_mutex_init(&ftp.lock, NULL);
    assert_int_equal(ftp_users_add(&ftp.users, "one:" CALLS_HASH "secret"), 0);
    assert_int_equal(ftp_users_add(&ftp.users, "two:" CALLS_HASH "other:dir"), 0);
    snprintf(root, sizeof root, "%ssrv", stage->folder);
    ftp.root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(ftp.root_fd >= 0);
    stage_listen(stage, &ftp_protocol, &ftp, ret_address);
}

static void ftp_stop(struct stage *stage)
{
    (void)stage;
    for (size_t i = 0; i < sizeof ftp.hashings / sizeof ftp.hashings[0]; i++)
        free(ftp.hashings[i]);
    close(ftp.root_fd);
    ftp_users_fini(&ftp.users);
    pthread_mutex_destroy(&ftp.lock);
}

const struct served served_ftp = { "ftp", ftp_start, ftp_stop };
