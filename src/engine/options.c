#include "options.h"

#include <ctype.h>
#include <string.h>

#include "options_internal.h"

#define NAME_LIMIT 64 /* longer than any name; bounds the search for one */

/* How many letters must be changed, added or left out to make one of the
 * other (Levenshtein). Both are shorter than NAME_LIMIT. */
static unsigned
distance(const char *a, const char *b)
{
    unsigned row[NAME_LIMIT + 1];
    size_t n = strlen(b);

    for (size_t j = 0; j <= n; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 0; a[i] != '\0'; i++) {
        unsigned diagonal = row[0];

        row[0]++;
        for (size_t j = 0; j < n; j++) {
            unsigned best = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j + 1] = best < diagonal + 1 ? best : diagonal + 1;
        }
    }
    return row[n];
}

static const struct lev_option *
nearest(const char *name)
{
    const struct lev_option *found = NULL;
    size_t len = strlen(name);
    unsigned best = len < 6 ? 3 : 5; /* what is further is no misspelling */

    for (size_t i = 0; i < lev_option_count && len < NAME_LIMIT; i++) {
        unsigned d = distance(name, lev_option_table[i].name);

        if (d < best) {
            best = d;
            found = &lev_option_table[i];
        }
    }
    return found;
}

static const struct lev_option *
find(const char *name, struct lev_error *err)
{
    const struct lev_option *near;

    for (size_t i = 0; i < lev_option_count; i++) {
        if (strcmp(lev_option_table[i].name, name) == 0) {
            return &lev_option_table[i];
        }
    }
    near = nearest(name);
    lev_error_set(err, LEV_E_INVALID, 0, "unknown option '%.100s'%s%s%s", name,
                  near == NULL ? "" : "; did you mean '",
                  near == NULL ? "" : near->name, near == NULL ? "" : "'?");
    return NULL;
}

static bool
publishes(const json_t *host)
{
    return json_object_size(lev_json_get(host, "PortBindings")) > 0 ||
           lev_json_bool(host, "PublishAllPorts", false);
}

/* What another network's owner, or nobody, answers for. */
static int
check_ports(const json_t *host, struct lev_error *err)
{
    const char *mode = lev_json_str(host, "NetworkMode");

    if (mode == NULL || !publishes(host) ||
        (strcmp(mode, "host") != 0 && strcmp(mode, "none") != 0 &&
         strncmp(mode, "container:", 10) != 0))
    {
        return 0;
    }
    return lev_error_set(err, LEV_E_INVALID, 0,
                         "option '%s' cannot go with network_mode='%s': "
                         "there is no network of its own to publish from",
                         lev_json_get(host, "PortBindings") != NULL
                             ? "port_bindings"
                             : "publish_all_ports",
                         mode);
}

/* What is bound to the host is exposed, too. */
static int
expose(json_t *config, const json_t *host, struct lev_error *err)
{
    json_t *exposed = json_object_get(config, "ExposedPorts"), *list;
    const char *port;

    json_object_foreach(lev_json_get(host, "PortBindings"), port, list)
    {
        if (exposed == NULL) {
            exposed = json_object();
            json_object_set_new(config, "ExposedPorts", exposed);
        }
        if (json_object_set_new(exposed, port, json_object()) < 0) {
            return lev_error_nomem(err, "ports");
        }
    }
    return 0;
}

static int
check_processors(const json_t *host, struct lev_error *err)
{
    if (lev_json_int(host, "NanoCpus", 0) > 0 &&
        (lev_json_get(host, "CpuQuota") != NULL ||
         lev_json_get(host, "CpuPeriod") != NULL))
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "option 'nano_cpus' is a quota and a period in "
                             "one: it cannot go with cpu_quota or cpu_period");
    }
    return 0;
}

/* Together: what no row can tell by itself. */
static int
check_together(const json_t *config, const json_t *host, struct lev_error *err)
{
    int64_t memory = lev_json_int(host, "Memory", 0);
    int64_t swap = lev_json_int(host, "MemorySwap", 0);
    const char *mode = lev_json_str(host, "NetworkMode");
    const char *clash = lev_json_get(config, "Hostname") != NULL ? "hostname"
                        : lev_json_get(host, "Dns") != NULL      ? "dns"
                        : lev_json_get(host, "ExtraHosts") != NULL
                            ? "extra_hosts"
                            : NULL;

    if (swap > 0 && memory == 0) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "option 'memswap_limit' needs mem_limit beside "
                             "it: it is the sum of memory and swap");
    }
    if (swap > 0 && swap < memory) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "option 'memswap_limit' is the sum of memory and "
                             "swap: it cannot be less than mem_limit; -1 is "
                             "no limit");
    }
    if (mode != NULL && strncmp(mode, "container:", 10) == 0 && clash != NULL)
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "option '%s' cannot go with network_mode='%s': "
                             "the other container's is used",
                             clash, mode);
    }
    return check_ports(host, err) < 0 ? -1 : check_processors(host, err);
}

/* What engines fill in themselves (labels) is added to; two names of one thing
 * are one too many. */
static int
place(json_t *target, const struct lev_option *o, json_t *json,
      struct lev_error *err)
{
    _cleanup_json_ json_t *owned = json;
    json_t *there = json_object_get(target, o->key);
    int rc;

    if (strcmp(o->key, "CpuPeriod") == 0 && there != NULL) {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "cpu_group is an older name of cpu_period: give "
                             "one of them, and the quota as cpu_quota");
    }
    rc = json_is_object(there) && json_is_object(json)
             ? json_object_update(there, json)
             : json_object_set(target, o->key, json);
    return rc < 0 ? lev_error_nomem(err, o->name) : 0;
}

static int
apply_one(const struct lev_option *o, const bson_iter_t *value, json_t *config,
          json_t *host_config, struct lev_error *err)
{
    json_t *target = o->place == LEV_OPTION_HOST ? host_config : config;
    json_t *json;

    if (o->convert == NULL) {
        return lev_error_set(err, LEV_E_UNSUPPORTED_OPTION, 0,
                             "option '%s' is not supported yet%s%s", o->name,
                             o->instead == NULL ? "" : "; ",
                             o->instead == NULL ? "" : o->instead);
    }
    json = o->convert(o, value, err);
    if (json == NULL) {
        return -1;
    }
    return place(target, o, json, err);
}

int
lev_options_apply(const bson_t *options, const char *engine, json_t *config,
                  json_t *host_config, struct lev_error *err)
{
    bson_iter_t it;

    if (options == NULL || !bson_iter_init(&it, options)) {
        return 0;
    }
    while (bson_iter_next(&it)) {
        const struct lev_option *o = find(bson_iter_key(&it), err);

        if (o == NULL) {
            return -1;
        }
        if (BSON_ITER_HOLDS_NULL(&it)) {
            continue; /* docker-py's default: as if it were not given */
        }
        if (apply_one(o, &it, config, host_config, err) < 0) {
            if (engine != NULL && err->code == LEV_E_UNSUPPORTED_OPTION) {
                lev_error_wrap(err, "engine %s", engine);
            }
            return -1;
        }
    }
    return expose(config, host_config, err) < 0
               ? -1
               : check_together(config, host_config, err);
}

int
lev_options_check(const bson_t *options, struct lev_error *err)
{
    _cleanup_json_ json_t *config = json_object();
    _cleanup_json_ json_t *host_config = json_object();

    if (config == NULL || host_config == NULL) {
        return lev_error_nomem(err, "options");
    }
    return lev_options_apply(options, NULL, config, host_config, err);
}

/* What the unit at `*p` multiplies by, moving `*p` behind it; 0 when it is
 * none. "k" and "kb" are the same. */
static int64_t
take_unit(const char **p)
{
    static const char units[] = "bkmgt";
    const char *unit;

    if (**p == '\0') {
        return 1;
    }
    unit = strchr(units, tolower((unsigned char)**p));
    if (unit == NULL) {
        return 0;
    }
    (*p)++;
    if (unit != units && tolower((unsigned char)**p) == 'b') {
        (*p)++;
    }
    return INT64_C(1) << 10 * (unit - units);
}

/* Digits with a fraction, without strtod(): it would follow the locale and
 * round what is exact here. At most 15 digits of a fraction count. */
static bool
take_number(const char **p, uint64_t *whole, uint64_t *fraction,
            uint64_t *scale)
{
    const char *from = *p;
    size_t digits = 0;

    *whole = *fraction = 0;
    *scale = 1;
    for (; isdigit((unsigned char)**p); (*p)++, digits++) {
        if (*whole > UINT64_MAX / 20) {
            return false;
        }
        *whole = *whole * 10 + (uint64_t)(**p - '0');
    }
    if (**p == '.') {
        for ((*p)++; isdigit((unsigned char)**p); (*p)++, digits++) {
            if (*scale < UINT64_C(1000000000000000)) {
                *fraction = *fraction * 10 + (uint64_t)(**p - '0');
                *scale *= 10;
            }
        }
    }
    return digits > 0 && *p != from;
}

int
lev_options_size(const char *text, int64_t *bytes, struct lev_error *err)
{
    const char *p = text;
    uint64_t whole, fraction, scale;
    unsigned __int128 sum;
    int64_t unit;

    if (!take_number(&p, &whole, &fraction, &scale) ||
        (unit = take_unit(&p)) == 0 || *p != '\0')
    {
        return lev_error_set(err, LEV_E_INVALID, 0,
                             "expected a number of bytes or "
                             "'[number][b|k|m|g]' ('1.5g'), got '%.60s'",
                             text);
    }
    sum = (unsigned __int128)whole * (uint64_t)unit +
          (unsigned __int128)fraction * (uint64_t)unit / scale;
    if (sum > INT64_MAX) {
        return lev_error_set(err, LEV_E_INVALID, 0, "'%.60s' is too large",
                             text);
    }
    *bytes = (int64_t)sum;
    return 0;
}
