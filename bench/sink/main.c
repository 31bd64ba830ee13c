// weir-sink: how fast a server hands out a large file to a client that hardly costs anything.
//
// Before anything is counted the file is fetched twice and read, and both must be the same. While
// it counts, the status and the length of every reply are checked, and the kernel drops the
// contents. IPv4 and one thread; one line of JSON on standard output.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sink.h"
#include "weir.h"

#define SECOND_NS 1e9

struct main_order {
    struct weir_address address;
    const char *path;
    uint32_t connections;
    double warmup_s, duration_s;
};

static bool main_number(const char *text, double least, double most, double *ret_number)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !(number >= least && number <= most))
        return false;
    *ret_number = number;
    return true;
}

static bool main_read(int argc, char **argv, struct main_order *ret_order)
{
    double connections;
    if (argc != 6 || weir_address_parse(argv[1], &ret_order->address) ||
        ret_order->address.any.sa_family != AF_INET || argv[2][0] != '/' ||
        !main_number(argv[3], 1, SINK_CONNECTIONS_MAX, &connections) ||
        !main_number(argv[4], 0, 60, &ret_order->warmup_s) ||
        !main_number(argv[5], 0.01, 60, &ret_order->duration_s))
        return false;
    ret_order->path = argv[2];
    ret_order->connections = (uint32_t)connections;
    return true;
}

static uint64_t main_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int main_verify(const struct main_order *order, struct sink_model *ret_model)
{
    struct sink_model again;
    int error = sink_fetch(&order->address.in, order->path, ret_model);
    if (!error)
        error = sink_fetch(&order->address.in, order->path, &again);
    if (error)
        return error;
    return ret_model->length == again.length && ret_model->hash == again.hash ? 0 : -EPROTO;
}

static void main_report(const struct sink_model *model, const struct sink_count *before,
                        const struct sink_count *after, double passed_s)
{
    double bytes = (double)(after->bytes - before->bytes);
    printf(
        "{\"ops_per_s\": %.4f, \"bytes_per_s\": %.0f, \"replies\": %llu, \"length\": %llu, "
        "\"hash\": \"%016llx\", \"bytes_per_receive\": %.0f, \"receives_per_wake\": %.2f, "
        "\"measured_s\": %.4f}\n",
        bytes / (double)model->length / passed_s, bytes / passed_s,
        (unsigned long long)(after->replies - before->replies), (unsigned long long)model->length,
        (unsigned long long)model->hash, bytes / (double)(after->receives - before->receives + 1),
        (double)(after->receives - before->receives) / (double)(after->wakes - before->wakes + 1),
        passed_s);
}

static int main_measure(const struct main_order *order)
{
    struct sink_model model;
    struct sink *sink = NULL;
    struct sink_count before, after;
    int error = main_verify(order, &model);
    if (!error)
        error = sink_open(&order->address.in, order->path, &model, order->connections, &sink);
    if (error)
        return error;
    uint64_t from_ns = main_now() + (uint64_t)(order->warmup_s * SECOND_NS);
    error = sink_run(sink, from_ns);
    sink_counted(sink, &before);
    from_ns = main_now();
    if (!error)
        error = sink_run(sink, from_ns + (uint64_t)(order->duration_s * SECOND_NS));
    sink_counted(sink, &after);
    double passed_s = (double)(main_now() - from_ns) / SECOND_NS;
    sink_close(sink);
    if (!error)
        main_report(&model, &before, &after, passed_s);
    return error;
}

int main(int argc, char **argv)
{
    struct main_order order;
    if (!main_read(argc, argv, &order)) {
        fputs("usage: weir-sink ADDRESS:PORT PATH CONNECTIONS WARMUP_SECONDS SECONDS\n", stderr);
        return 2;
    }
    int error = main_measure(&order);
    if (error) {
        fprintf(stderr, "weir-sink: %s\n",
                error == -EPROTO ? "a reply is not what it has to be" : strerror(-error));
        return 1;
    }
    return 0;
}
