// The summary for people.
#include "report.h"

#include <inttypes.h>

void report_time(double time_ns, char ret_text[REPORT_TIME_SIZE])
{
    if (time_ns < 1e3)
        snprintf(ret_text, REPORT_TIME_SIZE, "%.0f ns", time_ns);
    else if (time_ns < 1e6)
        snprintf(ret_text, REPORT_TIME_SIZE, "%.*f us", time_ns < 1e5 ? 1 : 0, time_ns / 1e3);
    else if (time_ns < 1e9)
        snprintf(ret_text, REPORT_TIME_SIZE, "%.*f ms", time_ns < 1e7 ? 2 : 1, time_ns / 1e6);
    else
        snprintf(ret_text, REPORT_TIME_SIZE, "%.2f s", time_ns / 1e9);
}

void report_percentile(const struct histogram *histogram, uint32_t percent,
                       char ret_text[REPORT_TIME_SIZE])
{
    uint64_t value_ns;
    if (histogram_percentile(histogram, percent, &value_ns))
        report_time((double)value_ns, ret_text);
    else
        snprintf(ret_text, REPORT_TIME_SIZE, "-");
}

double report_utilization(const struct worker *worker)
{
    const struct worker_usage *begin = &worker->result.begin, *end = &worker->result.end;
    double seconds = (double)(end->at_ns - begin->at_ns) * 1e-9;
    double used = end->user_s - begin->user_s + end->system_s - begin->system_s;
    return seconds > 0 ? used / seconds : 0;
}

double report_busy(const struct worker *worker)
{
    const struct worker_usage *begin = &worker->result.begin, *end = &worker->result.end;
    double seconds = (double)(end->at_ns - begin->at_ns) * 1e-9;
    double spun = (double)(end->spin_ns - begin->spin_ns) * 1e-9;
    double busy = report_utilization(worker) - (seconds > 0 ? spun / seconds : 0);
    return busy > 0 ? busy : 0;
}

// An open loop's requests leave late when the machine does not let the load run; spinning shows how
// much of its time that is.
static void report_stolen(const struct crew_result *result, FILE *file)
{
    double spun = 0, stolen = 0;
    for (uint32_t i = 0; i < result->options->threads; i++) {
        const struct worker_result *worker = &result->workers[i].result;
        spun += (double)(worker->end.spin_ns - worker->begin.spin_ns);
        stolen += (double)(worker->end.stolen_ns - worker->begin.stolen_ns);
    }
    if (spun > 0)
        fprintf(file, "          while it spun, %.2f %% of the time went by in gaps over 10 us\n",
                100 * stolen / spun);
}

static void report_latency(const char *name, const struct histogram *histogram, FILE *file)
{
    static const uint32_t percents[] = { 50000, 90000, 99000, 99900 };
    static const char *const names[] = { "p50", "p90", "p99", "p99.9" };
    char text[REPORT_TIME_SIZE];
    fprintf(file, "%-9s", name);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        report_percentile(histogram, percents[i], text);
        fprintf(file, " %s %s ", names[i], text);
    }
    report_time((double)histogram->max_ns, text);
    fprintf(file, " max %s ", text);
    report_time(histogram_mean(histogram), text);
    fprintf(file, " mean %s\n", text);
}

static void report_errors(const struct worker_result *sum, FILE *file)
{
    uint64_t total = 0;
    fputs("errors   ", file);
    for (uint32_t i = 0; i < FAILURE_COUNT; i++) {
        total += sum->failures[i];
        if (sum->failures[i])
            fprintf(file, " %s %" PRIu64, worker_failure_name(i), sum->failures[i]);
    }
    fputs(total ? "\n" : " none\n", file);
    if (sum->censored || sum->lost)
        fprintf(file,
                "unended   %" PRIu64 " requests counted as at least that late (%" PRIu64
                " of them never sent), %" PRIu64 " lost with their connection\n",
                sum->censored, sum->unsent, sum->lost);
}

static const char *report_operations(const struct options *options)
{
    static const char *const operations[] = {
        [FTP_LOGIN] = "logins",
        [FTP_NOOP] = "commands",
        [FTP_RETR] = "downloads",
        [FTP_STOR] = "uploads",
    };
    if (options->protocol == LOAD_FTP)
        return operations[options->operation];
    return options->protocol == LOAD_HTTP ? "requests" : "echoes";
}

static void report_ftp_head(const struct options *options, FILE *file)
{
    fprintf(file, ", %s", options_operation_name(options->operation));
    if (options->operation == FTP_RETR || options->operation == FTP_STOR)
        fprintf(file, " %s", options->path);
    if (options->files > 1)
        fprintf(file, " of %u files", options->files);
    if (options->churn && options->operation != FTP_LOGIN)
        fprintf(file, ", %u %s per connection", options->churn, report_operations(options));
    if (options->beside)
        fprintf(file, ", beside a download of %s", options->beside);
}

// Of each command, and what went on beside.
static void report_steps(const struct worker_result *sum, double per_second, FILE *file)
{
    for (uint32_t i = 0; i < FTP_STEPS && sum->steps[i]; i++) {
        if (sum->steps[i]->count)
            report_latency(ftp_step_name(i), sum->steps[i], file);
    }
    if (sum->beside_bytes)
        fprintf(file, "beside    %.1f MB/s received\n",
                (double)sum->beside_bytes * per_second * 1e-6);
}

static void report_head(const struct crew_result *result, FILE *file)
{
    const struct options *options = result->options;
    char text[WEIR_ADDRESS_TEXT_SIZE];
    weir_address_print(&options->addresses[0], text);
    fprintf(file, "weir-load %s %s", options_protocol_name(options->protocol), text);
    if (options->addresses_count > 1)
        fprintf(file, " and %u more", options->addresses_count - 1);
    fprintf(file, ": %u connections x depth %u", options->connections, options->depth);
    if (options->size)
        fprintf(file, ", %" PRIu64 " B", options->size);
    if (options->protocol == LOAD_HTTP)
        fprintf(file, ", %s %s", options->method, options->path);
    if (options->protocol == LOAD_FTP)
        report_ftp_head(options, file);
    else if (options->churn)
        fprintf(file, ", %u %s per connection", options->churn, report_operations(options));
    if (options->idle > (options->beside ? 1U : 0U))
        fprintf(file, ", %u idle", options->idle - (options->beside ? 1 : 0));
    if (options->rate > 0)
        fprintf(file, ", open loop %g/s %s", options->rate,
                options_arrivals_name(options->arrivals));
    else
        fputs(", closed loop", file);
    if (options->turns)
        fprintf(file, ", %u turn%s", result->turns, result->turns == 1 ? "" : "s");
    fprintf(file, ", %u thread%s\n", options->threads, options->threads > 1 ? "s" : "");
    fprintf(file, "engine    %s (%s)\n", result->workers[0].engine, result->workers[0].plan);
}

static const char *report_direction(const struct options *options)
{
    if (options->protocol == LOAD_FTP && options->operation == FTP_STOR)
        return " sent";
    return options->protocol == LOAD_ECHO ? " each way" : " received";
}

void report_print(const struct crew_result *result, FILE *file)
{
    const struct options *options = result->options;
    const struct worker_result *sum = &result->sum;
    double seconds = (double)result->measured_ns * 1e-9;
    double per_second = seconds > 0 ? 1 / seconds : 0;
    report_head(result, file);
    fprintf(file, "rate      %.1f %s/s, %.1f MB/s%s (%" PRIu64 " in %.3f s)%s\n",
            (double)sum->ops * per_second,
            options->churn && options->operation != FTP_LOGIN ? "connections"
                                                              : report_operations(options),
            (double)sum->bytes * per_second * 1e-6, report_direction(options), sum->ops, seconds,
            result->interrupted ? ", interrupted" : "");
    if (sum->response)
        report_latency("response", sum->response, file);
    report_latency("service", sum->service, file);
    if (sum->lag) {
        report_latency("lag", sum->lag, file);
        report_stolen(result, file);
    } else {
        fputs("          closed loop: what a user would wait for cannot be told from this\n", file);
    }
    report_steps(sum, per_second, file);
    report_errors(sum, file);
    double cpu_s = result->user_s + result->system_s;
    fprintf(file, "client    CPU user %.2f s, system %.2f s", result->user_s, result->system_s);
    if (sum->ops)
        fprintf(file, ", %.2f us per operation", cpu_s * 1e6 / (double)sum->ops);
    for (uint32_t i = 0; i < options->threads; i++)
        fprintf(file, "%s%.0f %%", i ? ", " : "; busy threads ",
                100 * report_busy(&result->workers[i]));
    fprintf(file, "\nreplies   %" PRIu64 " of %" PRIu64 " compared%s\n", sum->verified, sum->echoes,
            sum->failures[FAILURE_CORRUPT] ? ", and some DIFFERED from what was sent" : "");
}
