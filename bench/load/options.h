// The command line, read strictly: what is not understood is an error and never a guess.
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <weir.h>

#include "schedule.h"

enum load_protocol { LOAD_ECHO, LOAD_HTTP, LOAD_FTP };

enum verify { VERIFY_FULL, VERIFY_SAMPLE, VERIFY_NONE };

enum {
    OPTIONS_CPUS_MAX = 1024,
    OPTIONS_ADDRESSES_MAX = 65536,
    OPTIONS_ERROR_SIZE = 256,
};

struct options {
    struct weir_address *addresses; // connections are spread over them
    uint32_t addresses_count;
    struct weir_address local; // size 0: the kernel chooses
    uint32_t connections;
    uint32_t depth; // requests in flight per connection
    uint64_t size;  // of a message; http: of a request; ftp: of a file, 0: as the server has it
    uint64_t duration_ns;
    uint64_t warmup_ns;
    bool turns;                           // standard input says when to run
    uint64_t timeout_ns;                  // per request; 0: never
    uint32_t protocol;                    // enum load_protocol
    const char *method;                   // http
    const char *path;                     // http, ftp
    uint64_t body_size;                   // http: of a request
    uint32_t operation;                   // ftp: enum ftp_operation
    uint32_t files;                       // ftp: the numbers that stand for {} in the path
    const char *user, *password, *beside; // ftp
    uint32_t threads;
    uint16_t cpus[OPTIONS_CPUS_MAX];
    uint32_t cpus_count;
    double rate;       // requests per second; 0: closed loop
    uint32_t arrivals; // enum arrivals
    bool arrivals_given;
    uint64_t seed;
    uint32_t churn;  // echoes per connection; 0: connections stay
    uint32_t idle;   // further connections that stay silent
    bool busy;       // never sleep
    uint32_t verify; // enum verify
    uint32_t engine; // enum weir_engine
    const char *uring_features;
    const char *json; // a file's name, "-" for standard output, or NULL
};

enum options_result { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION, OPTIONS_WRONG };

// Reads the arguments. OPTIONS_WRONG writes one line into ret_error. options_fini() is due after
// any result.
enum options_result options_parse(struct options *options, int count, char **arguments,
                                  char ret_error[OPTIONS_ERROR_SIZE]);
void options_fini(struct options *options);

void options_print_help(FILE *file);

// http: writes the request into `room` bytes; returns its length, also where it does not fit.
size_t options_request_write(const struct options *options, char *ret_text, size_t room);

// The words of the command line for a value, as reports repeat them.
const char *options_protocol_name(uint32_t protocol);
const char *options_verify_name(uint32_t verify);
const char *options_arrivals_name(uint32_t arrivals);
const char *options_operation_name(uint32_t operation);

// Parsers of single values (options_values.c): false when the text is anything else. The first
// stops behind the last digit.
bool options_read_digits(const char *text, const char **ret_end, uint64_t *ret_number);
bool options_read_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number);
bool options_read_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret_size);
bool options_read_decimal(const char *text, double min, double max, double *ret_number);
bool options_read_seconds(const char *text, double min, double max, uint64_t *ret_ns);

#endif
