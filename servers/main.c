// The `weir` command: finds the subcommand.
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <weir.h>

#include "commands.h"
#include "serve.h"

static const struct {
    const char *name;
    const char *about;
    int (*main)(int argc, char **argv);
} main_commands[] = {
    { "echo", "send back what comes in", echo_main },
    { "ftp", "serve files over FTP", ftp_main },
    { "passwd", "make a user's line for weir ftp", passwd_main },
    { "http", "serve files and small handlers over HTTP/1.1", http_main },
    { "doctor", "show what this machine offers, and mend what is missing", doctor_main },
};

enum { MAIN_COMMANDS = sizeof main_commands / sizeof main_commands[0] };

static void main_help(FILE *file)
{
    fprintf(file, "usage: weir COMMAND [options]\n       weir --version\n\ncommands:\n");
    for (int i = 0; i < MAIN_COMMANDS; i++)
        fprintf(file, "  %-10s %s\n", main_commands[i].name, main_commands[i].about);
    fprintf(file, "\n`weir COMMAND --help` lists a command's options.\n");
}

// Output that could not be written is a failure, also when it is only a help text.
static int main_finish(int status)
{
    if (fflush(stdout) == 0 || status)
        return status;
    perror("weir: standard output");
    return SERVE_EXIT_RUN;
}

// Without this, a closed standard descriptor's number goes to a socket or a ring, and the log would
// be written into it.
static bool main_open_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    return fd >= 0 || fcntl(STDERR_FILENO, F_GETFD) >= 0;
}

int main(int argc, char **argv)
{
    // UNTESTED: no descriptor is left, not even for /dev/null
    if (!main_open_descriptors())
        return SERVE_EXIT_RUN; // and nowhere to say so
    // A closed pipe and a file that reached its size limit are errors of a call, not ends of a
    // server.
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (argc < 2) {
        main_help(stderr);
        return SERVE_EXIT_USAGE;
    }
    for (int i = 0; i < MAIN_COMMANDS; i++) {
        if (!strcmp(argv[1], main_commands[i].name))
            return main_finish(main_commands[i].main(argc - 1, argv + 1));
    }
    bool help = !strcmp(argv[1], "--help"), version = !strcmp(argv[1], "--version");
    if ((help || version) && argc > 2) {
        fprintf(stderr, "weir: %s: unexpected argument (see weir --help)\n", argv[2]);
        return SERVE_EXIT_USAGE;
    }
    if (help) {
        main_help(stdout);
        return main_finish(0);
    }
    if (version) {
        printf("%s\n", weir_version_text());
        return main_finish(0);
    }
    fprintf(stderr, "weir: %s: unknown command (see weir --help)\n", argv[1]);
    return SERVE_EXIT_USAGE;
}
