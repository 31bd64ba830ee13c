// weir passwd: reads a password and prints its salted hash, for `weir ftp --user` and --users.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "commands.h"
#include "ftp/users.h"
#include "options.h"
#include "serve.h"

enum { PASSWD_MAX = 512 };

struct passwd_settings {
    const char *user;
};

static const struct option_row passwd_options[] = {
    { .name = "user",
      .argument = "NAME",
      .help = "print NAME:HASH, a line of --users",
      .kind = OPTION_TEXT,
      .offset = offsetof(struct passwd_settings, user) },
    { .name = NULL },
};

static int passwd_fault(const char *reason)
{
    fprintf(stderr, "weir passwd: %s\n", reason);
    return SERVE_EXIT_RUN;
}

// One line of standard input, without an echo on a terminal. NULL, or why there is none.
static const char *passwd_read(const char *prompt, char ret_text[PASSWD_MAX])
{
    struct termios before, silent;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        fputs(prompt, stderr);
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    char *line = fgets(ret_text, PASSWD_MAX, stdin);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (!line)
        return "no password came";
    size_t size = strcspn(ret_text, "\n");
    if (!ret_text[size] && size == PASSWD_MAX - 1)
        return "the password is too long";
    ret_text[size] = '\0';
    return size ? NULL : "the password is empty";
}

static const char *passwd_ask(char ret_password[PASSWD_MAX])
{
    char again[PASSWD_MAX];
    const char *fault = passwd_read("Password: ", ret_password);
    if (fault || !isatty(STDIN_FILENO))
        return fault;
    fault = passwd_read("Again: ", again);
    if (!fault && strcmp(ret_password, again) != 0)
        fault = "the two are not the same";
    explicit_bzero(again, sizeof again);
    return fault;
}

int passwd_main(int argc, char **argv)
{
    static const struct option_set options = {
        .command = "weir passwd",
        .usage = "[--user NAME]",
        .about = "Reads a password and prints its salted hash (crypt(3), yescrypt).",
        .rows = passwd_options,
    };
    struct passwd_settings settings = { 0 };
    char password[PASSWD_MAX];
    int parsed = options_parse(&options, argc, argv, &settings);
    if (parsed)
        return parsed > 0 ? 0 : SERVE_EXIT_USAGE;
    if (settings.user && strchr(settings.user, ':'))
        return passwd_fault("a name has no colon") ? SERVE_EXIT_USAGE : 0;
    const char *fault = passwd_ask(password);
    if (fault)
        return passwd_fault(fault);
    char *hash = ftp_users_hash(password);
    explicit_bzero(password, sizeof password);
    // UNTESTED: this crypt(3) has yescrypt
    if (!hash)
        return passwd_fault("this system's crypt(3) makes no yescrypt hash");
    printf("%s%s%s\n", settings.user ? settings.user : "", settings.user ? ":" : "", hash);
    free(hash);
    return 0;
}
