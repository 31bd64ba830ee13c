// The report as one JSON object.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

static void report_json_string(const char *text, FILE *file)
{
    fputc('"', file);
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            fprintf(file, "\\%c", byte);
        else if (byte < 0x20 || byte >= 0x7f) // a path's bytes need not be UTF-8
            fprintf(file, "\\u%04x", byte);
        else
            fputc(byte, file);
    }
    fputc('"', file);
}

static void report_json_address(const struct weir_address *address, FILE *file)
{
    char text[WEIR_ADDRESS_TEXT_SIZE];
    weir_address_print(address, text);
    report_json_string(text, file);
}

static const char *report_json_bool(bool value)
{
    return value ? "true" : "false";
}

// The password stays out of reports.
static void report_json_ftp(const struct options *options, FILE *file)
{
    fprintf(file, ", \"operation\": \"%s\", \"files\": %u, \"path\": ",
            options_operation_name(options->operation), options->files);
    report_json_string(options->path, file);
    fputs(", \"user\": ", file);
    report_json_string(options->user, file);
    fputs(", \"beside\": ", file);
    if (options->beside)
        report_json_string(options->beside, file);
    else
        fputs("null", file);
}

static void report_json_parameters(const struct options *options, FILE *file)
{
    fputs("  \"parameters\": {\"connect\": [", file);
    for (uint32_t i = 0; i < options->addresses_count; i++) {
        fputs(i ? ", " : "", file);
        report_json_address(&options->addresses[i], file);
    }
    fprintf(file,
            "], \"connections\": %u, \"depth\": %u, \"size\": %" PRIu64 ", \"duration_s\": %.9g,"
            " \"warmup_s\": %.9g, \"threads\": %u, \"cpu\": [",
            options->connections, options->depth, options->size,
            (double)options->duration_ns * 1e-9, (double)options->warmup_ns * 1e-9,
            options->threads);
    for (uint32_t i = 0; i < options->cpus_count; i++)
        fprintf(file, "%s%u", i ? ", " : "", options->cpus[i]);
    fputs("], \"rate\": ", file);
    if (options->rate > 0)
        fprintf(file, "%.9g, \"arrivals\": \"%s\"", options->rate,
                options_arrivals_name(options->arrivals));
    else
        fputs("null, \"arrivals\": null", file);
    fprintf(file,
            ", \"seed\": %" PRIu64 ", \"churn\": %u, \"idle\": %u, \"timeout_s\": %.9g,"
            " \"busy\": %s, \"verify\": \"%s\", \"local\": ",
            options->seed, options->churn, options->idle - (options->beside ? 1 : 0),
            (double)options->timeout_ns * 1e-9, report_json_bool(options->busy),
            options_verify_name(options->verify));
    if (options->local.size)
        report_json_address(&options->local, file);
    else
        fputs("null", file);
    if (options->protocol == LOAD_FTP)
        report_json_ftp(options, file);
    fprintf(file, ", \"by_turns\": %s},\n", report_json_bool(options->turns));
}

static void report_json_percentile(const char *name, const struct histogram *histogram,
                                   uint32_t percent, FILE *file)
{
    uint64_t value_ns;
    if (histogram_percentile(histogram, percent, &value_ns))
        fprintf(file, ", \"%s\": %" PRIu64, name, value_ns);
    else
        fprintf(file, ", \"%s\": null", name);
}

static void report_json_latency(const char *name, const struct histogram *histogram, FILE *file)
{
    fprintf(file, "    \"%s\": ", name);
    if (!histogram) {
        fputs("null", file);
        return;
    }
    fprintf(file, "{\"count\": %" PRIu64, histogram->count);
    report_json_percentile("p50", histogram, 50000, file);
    report_json_percentile("p90", histogram, 90000, file);
    report_json_percentile("p99", histogram, 99000, file);
    report_json_percentile("p99.9", histogram, 99900, file);
    if (histogram->count)
        fprintf(file, ", \"min\": %" PRIu64 ", \"max\": %" PRIu64 ", \"mean\": %.1f}",
                histogram->min_ns, histogram->max_ns, histogram_mean(histogram));
    else
        fputs(", \"min\": null, \"max\": null, \"mean\": null}", file);
}

static void report_json_histogram(const char *name, const struct histogram *histogram, FILE *file)
{
    fprintf(file, "    \"%s\": ", name);
    if (histogram)
        histogram_print_json(histogram, file);
    else
        fputs("null", file);
}

typedef void report_json_printer(const char *name, const struct histogram *histogram, FILE *file);

// The three histograms in one object, each as `print` shows it.
static void report_json_three(const char *name, const struct worker_result *sum,
                              report_json_printer *print, FILE *file)
{
    fprintf(file, "  \"%s\": {\n", name);
    print("response", sum->response, file);
    fputs(",\n", file);
    print("service", sum->service, file);
    fputs(",\n", file);
    print("lag", sum->lag, file);
    fputs("\n  },\n", file);
}

static void report_json_errors(const struct worker_result *sum, FILE *file)
{
    uint64_t total = 0;
    fputs("  \"errors\": {", file);
    for (uint32_t i = 0; i < FAILURE_COUNT; i++) {
        total += sum->failures[i];
        fprintf(file, "\"%s\": %" PRIu64 ", ", worker_failure_name(i), sum->failures[i]);
    }
    fprintf(file, "\"total\": %" PRIu64 "},\n", total);
}

static void report_json_client(const struct crew_result *result, FILE *file)
{
    double seconds = (double)result->measured_ns * 1e-9;
    double cpu_s = result->user_s + result->system_s;
    fprintf(file,
            "  \"client\": {\"user_s\": %.6f, \"system_s\": %.6f, \"utilization\": %.4f,"
            " \"threads\": [",
            result->user_s, result->system_s, seconds > 0 ? cpu_s / seconds : 0);
    for (uint32_t i = 0; i < result->options->threads; i++) {
        const struct worker *worker = &result->workers[i];
        const struct worker_usage *begin = &worker->result.begin, *end = &worker->result.end;
        fprintf(file,
                "%s{\"user_s\": %.6f, \"system_s\": %.6f, \"utilization\": %.4f, \"busy\": %.4f,"
                " \"spin_s\": %.6f, \"stolen_s\": %.6f}",
                i ? ", " : "", end->user_s - begin->user_s, end->system_s - begin->system_s,
                report_utilization(worker), report_busy(worker),
                (double)(end->spin_ns - begin->spin_ns) * 1e-9,
                (double)(end->stolen_ns - begin->stolen_ns) * 1e-9);
    }
    fputs("]},\n", file);
}

static void report_json_stats(const struct weir_stats *stats, FILE *file)
{
    size_t size = weir_stats_print(stats, true, NULL, 0) + 1;
    char *text = malloc(size);
    fputs("  \"loop_stats\": ", file);
    if (text) {
        weir_stats_print(stats, true, text, size);
        text[strcspn(text, "\n")] = '\0';
    }
    fputs(text ? text : "null", file);
    fputs("\n", file);
    free(text);
}

static void report_json_counts(const struct crew_result *result, FILE *file)
{
    const struct options *options = result->options;
    const struct worker_result *sum = &result->sum;
    double seconds = (double)result->measured_ns * 1e-9;
    if (options->turns)
        fprintf(file, "  \"turns\": %u,\n", result->turns);
    fprintf(file,
            "  \"times\": {\"started_unix_s\": %.3f, \"measured_s\": %.9f, \"drained_s\": %.9f,"
            " \"interrupted\": %s},\n",
            (double)result->started_unix_ns * 1e-9, seconds, (double)result->drained_ns * 1e-9,
            report_json_bool(result->interrupted));
    fprintf(file, "  \"ops\": %" PRIu64 ",\n  \"ops_per_s\": %.3f,\n", sum->ops,
            seconds > 0 ? (double)sum->ops / seconds : 0);
    if (options->rate > 0)
        fprintf(file, "  \"offered_per_s\": %.9g,\n", options->rate);
    else
        fputs("  \"offered_per_s\": null,\n", file);
    fprintf(file, "  \"echoes\": %" PRIu64 ",\n  \"bytes\": %" PRIu64 ",\n", sum->echoes,
            sum->bytes);
    fprintf(file,
            "  \"requests\": {\"verified\": %" PRIu64 ", \"censored\": %" PRIu64
            ", \"unsent\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"carried_in_ns\": %" PRIu64
            ", \"carried_out_ns\": %" PRIu64 "},\n",
            sum->verified, sum->censored, sum->unsent, sum->lost, sum->carried_in_ns,
            sum->carried_out_ns);
    fprintf(file,
            "  \"connections\": {\"open_at_start\": %u, \"open_at_end\": %u, \"opened\": %" PRIu64
            "},\n",
            result->connected, result->open_at_end, sum->opened);
}

static const char *report_json_operation(const struct options *options)
{
    if (options->protocol == LOAD_FTP && options->operation == FTP_LOGIN)
        return "login";
    if (options->churn)
        return "connection";
    if (options->protocol == LOAD_FTP)
        return options_operation_name(options->operation);
    return options->protocol == LOAD_HTTP ? "request" : "echo";
}

// ftp: the latency of each command, and what the session beside received.
static void report_json_steps(const struct worker_result *sum, FILE *file)
{
    if (!sum->steps[0])
        return;
    fputs("  \"commands_ns\": {\n", file);
    for (uint32_t i = 0; i < FTP_STEPS; i++) {
        report_json_latency(ftp_step_name(i), sum->steps[i], file);
        fputs(i + 1 < FTP_STEPS ? ",\n" : "\n", file);
    }
    fprintf(file, "  },\n  \"beside_bytes\": %" PRIu64 ",\n", sum->beside_bytes);
}

void report_print_json(const struct crew_result *result, FILE *file)
{
    const struct options *options = result->options;
    fprintf(file,
            "{\n  \"schema\": \"weir-load/1\",\n  \"version\": \"%s\",\n  \"protocol\": \"%s\",\n"
            "  \"mode\": \"%s\",\n  \"operation\": \"%s\",\n",
            WEIR_VERSION, options_protocol_name(options->protocol),
            options->rate > 0 ? "open" : "closed", report_json_operation(options));
    report_json_parameters(options, file);
    fputs("  \"engine\": ", file);
    report_json_string(result->workers[0].engine, file);
    fputs(",\n  \"plan\": ", file);
    report_json_string(result->workers[0].plan, file);
    fputs(",\n", file);
    report_json_counts(result, file);
    report_json_three("latency_ns", &result->sum, report_json_latency, file);
    report_json_three("histograms", &result->sum, report_json_histogram, file);
    report_json_steps(&result->sum, file);
    report_json_errors(&result->sum, file);
    report_json_client(result, file);
    report_json_stats(&result->stats, file);
    fputs("}\n", file);
}
