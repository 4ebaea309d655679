#include "firewall.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "buf.h"
#include "nftmap.h"
#include "subprocess.h"

#define COMMAND_TIMEOUT (10 * LEV_SECOND)
#define UPLINKS "lv+"         /* of any session, as iptables says it */
#define INPUT_MAX (24 * 1024) /* a pipe takes it without a reader */

static const char *const forward_chains[] = {"DOCKER-USER", "FORWARD"};

static int
run(const char *const *argv, const char *input, struct lev_buf *out,
    struct lev_error *err)
{
    struct lev_scope scope = {lev_now() + COMMAND_TIMEOUT, NULL};
    _cleanup_buf_ struct lev_buf words = {0}, drop = {0};
    int status;

    if (lev_subprocess_run(&scope, argv, input, out == NULL ? &drop : out,
                           &words, &status, err) < 0)
    {
        return -1;
    }
    if (status != 0) {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, status,
                             "%s: %.300s", argv[0], lev_buf_text(&words));
    }
    return 0;
}

static int
nft(const struct lev_buf *rules, struct lev_error *err)
{
    static const char *const argv[] = {"nft", "-f", "-", NULL};

    return lev_buf_check(rules, "rules", err) < 0
               ? -1
               : run(argv, rules->data, NULL, err);
}

static int
iptables_restore(const struct lev_buf *rules, struct lev_error *err)
{
    static const char *const argv[] = {"iptables-restore", "-w", "--noflush",
                                       NULL};

    return lev_buf_check(rules, "rules", err) < 0
               ? -1
               : run(argv, rules->data, NULL, err);
}

/* ---- the session's namespace ---- */

/* The bridges' own frames are not the IP layer's business there: else two
 * containers of one bridge would meet the chain that keeps bridges apart. Who
 * comes by the uplink has been let through by the host's rules. */
static int
inside_nft(const char *uplink, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf rules = {0};

    lev_buf_printf(&rules,
                   "table ip levrt {\n"
                   " chain forward {\n"
                   "  type filter hook forward priority 0; policy drop;\n"
                   "  ct state established,related accept\n"
                   "  iifname \"%s\" accept\n"
                   "  oifname \"%s\" accept\n"
                   " }\n"
                   " chain nat {\n"
                   "  type nat hook postrouting priority 100;\n"
                   "  oifname \"%s\" masquerade\n"
                   " }\n"
                   "}\n",
                   uplink, uplink, uplink);
    return nft(&rules, err);
}

static int
inside_iptables(const char *uplink, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf rules = {0};

    lev_buf_printf(
        &rules,
        "*filter\n"
        ":FORWARD DROP [0:0]\n"
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
        "-A FORWARD -i %s -j ACCEPT\n"
        "-A FORWARD -o %s -j ACCEPT\n"
        "COMMIT\n"
        "*nat\n"
        "-A POSTROUTING -o %s -j MASQUERADE\n"
        "COMMIT\n",
        uplink, uplink, uplink);
    return iptables_restore(&rules, err);
}

int
lev_firewall_open_inside(struct lev_firewall *f, const char *uplink,
                         struct lev_error *err)
{
    struct lev_error late;

    if (inside_nft(uplink, err) == 0) {
        return 0;
    }
    f->iptables = true;
    if (inside_iptables(uplink, &late) == 0) {
        return 0;
    }
    if (err->code == LEV_E_OS && err->detail == ENOENT &&
        late.code == LEV_E_OS && late.detail == ENOENT)
    {
        return lev_error_set(err, LEV_E_ENGINE_UNAVAILABLE, ENOENT,
                             "containers' networks need the nft command: "
                             "install nftables (Debian, Ubuntu, Fedora, "
                             "Alpine, Arch), or use host=True or "
                             "network_mode=\"none\"");
    }
    if (err->code == LEV_E_OS && err->detail == ENOENT) {
        *err = late; /* the one that is there */
    }
    err->code = LEV_E_ENGINE_UNAVAILABLE;
    return lev_error_wrap(err, "rules of the session's network");
}

/* ---- the host ---- */

/* A rule of the forward chain without a verdict lets the next table's have
 * its say: what is not answered or published ends here, whoever sends it. */
static int
open_nft(const struct lev_firewall *f, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf rules = {0};
    const char *up = f->uplink;
    char inside[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &f->inside, inside, sizeof(inside));
    lev_buf_printf(
        &rules,
        "table ip levrt-%s {\n"
        " map tcp_at { type ipv4_addr . inet_service : "
        "ipv4_addr . inet_service; }\n"
        " map udp_at { type ipv4_addr . inet_service : "
        "ipv4_addr . inet_service; }\n"
        " map tcp_any { type inet_service : ipv4_addr . inet_service; }\n"
        " map udp_any { type inet_service : ipv4_addr . inet_service; }\n"
        " chain published {\n"
        "  dnat ip to ip daddr . tcp dport map @tcp_at\n"
        "  dnat ip to ip daddr . udp dport map @udp_at\n"
        "  dnat ip to tcp dport map @tcp_any\n"
        "  dnat ip to udp dport map @udp_any\n"
        " }\n",
        f->tag);
    lev_buf_printf(&rules,
                   " chain raw {\n"
                   "  type filter hook prerouting priority -300;\n"
                   "  iifname \"%s\" ip daddr 127.0.0.0/8 drop\n"
                   "  iifname \"%s\" ip saddr 127.0.0.0/8 drop\n"
                   " }\n"
                   " chain before {\n"
                   "  type nat hook prerouting priority -100;\n"
                   "  fib daddr type local jump published\n"
                   " }\n"
                   " chain output {\n"
                   "  type nat hook output priority -100;\n"
                   "  fib daddr type local jump published\n"
                   " }\n"
                   " chain after {\n"
                   "  type nat hook postrouting priority 100;\n"
                   "  ip saddr %s masquerade\n"
                   "  ip saddr 127.0.0.0/8 oifname \"%s\" masquerade\n"
                   " }\n"
                   " chain forward {\n"
                   "  type filter hook forward priority 0;\n"
                   "  oifname \"%s\" ct state established,related accept\n"
                   "  oifname \"%s\" ct status dnat accept\n"
                   "  oifname \"%s\" drop\n"
                   " }\n"
                   "}\n",
                   up, up, inside, up, up, up, up);
    return nft(&rules, err);
}

/* Jumps into chains that are gone with a tag. */
static const struct {
    const char *table, *from, *match, *suffix;
} jumps[] = {
    {"raw", "PREROUTING", "", ""},
    {"nat", "PREROUTING", "-m addrtype --dst-type LOCAL ", ""},
    {"nat", "OUTPUT", "-m addrtype --dst-type LOCAL ", ""},
    {"nat", "POSTROUTING", "", "-o"},
};

static void
add_jumps(const struct lev_firewall *f, const char *table,
          struct lev_buf *rules)
{
    for (size_t i = 0; i < LEV_ARRAY_LEN(jumps); i++) {
        if (strcmp(jumps[i].table, table) == 0) {
            lev_buf_printf(rules, "-A %s %s-j levrt-%s%s\n", jumps[i].from,
                           jumps[i].match, f->tag, jumps[i].suffix);
        }
    }
}

static int
open_iptables(const struct lev_firewall *f, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf rules = {0};
    const char *tag = f->tag, *up = f->uplink;
    char inside[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &f->inside, inside, sizeof(inside));
    lev_buf_printf(&rules,
                   "*raw\n"
                   ":levrt-%s - [0:0]\n"
                   "-A levrt-%s -i %s -d 127.0.0.0/8 -j DROP\n"
                   "-A levrt-%s -i %s -s 127.0.0.0/8 -j DROP\n",
                   tag, tag, up, tag, up);
    add_jumps(f, "raw", &rules);
    lev_buf_printf(&rules,
                   "COMMIT\n"
                   "*nat\n"
                   ":levrt-%s - [0:0]\n"
                   ":levrt-%s-o - [0:0]\n"
                   "-A levrt-%s-o -s %s -j MASQUERADE\n"
                   "-A levrt-%s-o -s 127.0.0.0/8 -o %s -j MASQUERADE\n",
                   tag, tag, tag, inside, tag, up);
    add_jumps(f, "nat", &rules);
    /* First, whatever else is in the chain; of two sessions neither opens the
     * other's uplink. */
    lev_buf_printf(&rules,
                   "COMMIT\n"
                   "*filter\n"
                   ":levrt-%s - [0:0]\n"
                   "-A levrt-%s -o %s -m conntrack --ctstate "
                   "RELATED,ESTABLISHED,DNAT -j ACCEPT\n"
                   "-A levrt-%s -o %s -j DROP\n"
                   "-A levrt-%s -i %s ! -o " UPLINKS " -j ACCEPT\n"
                   "-I %s -j levrt-%s\n"
                   "COMMIT\n",
                   tag, tag, up, tag, up, tag, up, f->chain, tag);
    return iptables_restore(&rules, err);
}

/* `add` ("-I", "-D"): out of the uplink everything, into it answers and what
 * is published. */
static int
forward_rules(const struct lev_firewall *f, const char *add,
              struct lev_error *err)
{
    char comment[32];
    const char *const out[] = {
        "iptables", "-w",        add,     f->chain, "-i",     f->uplink, "-m",
        "comment",  "--comment", comment, "-j",     "ACCEPT", NULL};
    const char *const in[] = {"iptables",  "-w",
                              add,         f->chain,
                              "-o",        f->uplink,
                              "-m",        "conntrack",
                              "--ctstate", "RELATED,ESTABLISHED,DNAT",
                              "-m",        "comment",
                              "--comment", comment,
                              "-j",        "ACCEPT",
                              NULL};

    snprintf(comment, sizeof(comment), "levrt-%s", f->tag);
    return run(out, NULL, NULL, err) < 0 || run(in, NULL, NULL, err) < 0 ? -1
                                                                         : 0;
}

/* True when iptables' FORWARD lets nothing through that it does not know:
 * Docker's, ufw's and firewalld's way. `chain` is where rules for that go. */
static bool
forward_drops(char chain[16])
{
    static const char *const list[] = {"iptables", "-w", "-S", "FORWARD",
                                       NULL};
    _cleanup_buf_ struct lev_buf rules = {0};
    struct lev_error none;

    if (run(list, NULL, &rules, &none) < 0) {
        snprintf(chain, 16, "FORWARD");
        return false; /* without iptables there is no such policy of it */
    }
    snprintf(chain, 16, "%s",
             strstr(lev_buf_text(&rules), "-j DOCKER-USER") != NULL
                 ? "DOCKER-USER"
                 : "FORWARD");
    return strstr(lev_buf_text(&rules), "-P FORWARD DROP") != NULL;
}

/* ---- who else has its say ---- */

#define FIREWALLD "table inet firewalld {"

/* `add`: "--add-interface" or "--remove-interface". */
static int
firewalld(const struct lev_firewall *f, const char *add, struct lev_error *err)
{
    const char *const argv[] = {"firewall-cmd", "-q", "--zone=trusted", add,
                                f->uplink,      NULL};

    return run(argv, NULL, NULL, err);
}

/* Where the administrator has let the uplinks through, that is enough. */
static bool
knows_uplinks(const char *family, const char *table, const char *chain)
{
    const char *const argv[] = {"nft", "list", "chain", family,
                                table, chain,  NULL};
    _cleanup_buf_ struct lev_buf rules = {0};
    struct lev_error none;

    return run(argv, NULL, &rules, &none) == 0 &&
           strstr(lev_buf_text(&rules), "name \"lv") != NULL;
}

static int
refuse_chain(const char *family, const char *table, const char *chain,
             struct lev_error *err)
{
    return lev_error_set(
        err, LEV_E_ENGINE_UNAVAILABLE, 0,
        "the chain %s of nftables' table %s %s drops what containers send: "
        "let them through (nft 'insert rule %s %s %s iifname \"lv*\" accept; "
        "insert rule %s %s %s oifname \"lv*\" ct state established,related "
        "accept'), or use host=True or network_mode=\"none\"",
        chain, family, table, family, table, chain, family, table, chain);
}

/* Chains as nft lists them; iptables' own were looked at already. */
static int
check_chains(char *list, struct lev_error *err)
{
    char family[16] = "", table[64] = "", chain[64] = "", *save = NULL;

    for (char *line = strtok_r(list, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save))
    {
        bool ip = strcmp(family, "inet") == 0 || strcmp(family, "ip") == 0;

        if (sscanf(line, "table %15s %63s {", family, table) == 2 ||
            sscanf(line, " chain %63s {", chain) == 1 || !ip ||
            strncmp(table, "levrt-", 6) == 0 ||
            (strcmp(table, "filter") == 0 && strcmp(chain, "FORWARD") == 0) ||
            strstr(line, "hook forward") == NULL ||
            strstr(line, "policy drop") == NULL)
        {
            continue;
        }
        if (!knows_uplinks(family, table, chain)) {
            return refuse_chain(family, table, chain, err);
        }
    }
    return 0;
}

static int
pass_others(struct lev_firewall *f, struct lev_error *err)
{
    static const char *const argv[] = {"nft", "list", "chains", NULL};
    _cleanup_buf_ struct lev_buf list = {0};
    struct lev_error none;

    if (run(argv, NULL, &list, &none) < 0 || list.data == NULL) {
        return 0; /* without the nft command there are none of its chains */
    }
    if (strstr(list.data, FIREWALLD) != NULL) {
        f->zoned = true;
        if (firewalld(f, "--add-interface", err) < 0) {
            return lev_error_wrap(err,
                                  "firewalld drops what containers send, and "
                                  "does not take %s into its zone trusted",
                                  f->uplink);
        }
    }
    return check_chains(list.data, err);
}

int
lev_firewall_open(struct lev_firewall *f, struct lev_error *err)
{
    bool drops = forward_drops(f->chain);

    if (pass_others(f, err) < 0) {
        return -1;
    }
    if (f->iptables) {
        return open_iptables(f, err);
    }
    if (open_nft(f, err) < 0) {
        return -1;
    }
    if (!drops) {
        return 0;
    }
    /* An accept in a table of ours would not help: each has its say. */
    f->forwards = true;
    if (forward_rules(f, "-I", err) < 0) {
        return lev_error_wrap(err,
                              "this host's FORWARD policy drops, and a rule "
                              "for %s is refused",
                              f->uplink);
    }
    return 0;
}

static void
delete_table(const char *tag)
{
    struct lev_error none;
    char table[32];
    const char *const argv[] = {"nft", "delete", "table", "ip", table, NULL};

    snprintf(table, sizeof(table), "levrt-%.8s", tag);
    run(argv, NULL, NULL, &none); /* not there: fine */
}

/* Each step alone: a table of rules is taken as a whole or not at all, and
 * any of them may be there without the others. */
static void
delete_chains(const char *tag)
{
    static const char *const chains[][2] = {
        {"raw", ""}, {"nat", ""}, {"nat", "-o"}, {"filter", ""}};
    _cleanup_buf_ struct lev_buf rules = {0};
    struct lev_error none;

    for (size_t i = 0; i < LEV_ARRAY_LEN(jumps); i++) {
        lev_buf_clear(&rules);
        lev_buf_printf(&rules, "*%s\n-D %s %s-j levrt-%s%s\nCOMMIT\n",
                       jumps[i].table, jumps[i].from, jumps[i].match, tag,
                       jumps[i].suffix);
        iptables_restore(&rules, &none);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(forward_chains); i++) {
        lev_buf_clear(&rules);
        lev_buf_printf(&rules, "*filter\n-D %s -j levrt-%s\nCOMMIT\n",
                       forward_chains[i], tag);
        iptables_restore(&rules, &none);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(chains); i++) {
        lev_buf_clear(&rules);
        lev_buf_printf(&rules, "*%s\n-F levrt-%s%s\n-X levrt-%s%s\nCOMMIT\n",
                       chains[i][0], tag, chains[i][1], tag, chains[i][1]);
        iptables_restore(&rules, &none);
    }
}

void
lev_firewall_close(struct lev_firewall *f)
{
    struct lev_error none;

    lev_closep(&f->nl);
    if (f->zoned) {
        firewalld(f, "--remove-interface", &none);
    }
    if (f->forwards) {
        forward_rules(f, "-D", &none);
    }
    if (f->iptables) {
        delete_chains(f->tag);
    }
    else {
        delete_table(f->tag);
    }
}

/* True when the host has chains of that tag: else iptables is not asked nine
 * times. */
static bool
has_chains(const char *tag)
{
    static const char *const tables[] = {"raw", "nat", "filter"};
    char chain[32];

    snprintf(chain, sizeof(chain), "levrt-%.8s", tag);
    for (size_t i = 0; i < LEV_ARRAY_LEN(tables); i++) {
        const char *const list[] = {"iptables", "-w",  "-t", tables[i],
                                    "-S",       chain, NULL};
        struct lev_error none;

        if (run(list, NULL, NULL, &none) == 0) {
            return true;
        }
    }
    return false;
}

static bool
has_firewalld(void)
{
    static const char *const argv[] = {"nft", "list", "tables", "inet", NULL};
    _cleanup_buf_ struct lev_buf list = {0};
    struct lev_error none;

    return run(argv, NULL, &list, &none) == 0 &&
           strstr(lev_buf_text(&list), "table inet firewalld") != NULL;
}

void
lev_firewall_sweep(const char *tag)
{
    struct lev_firewall f = {.forwards = true};
    struct lev_error none;

    snprintf(f.tag, sizeof(f.tag), "%s", tag);
    snprintf(f.uplink, sizeof(f.uplink), "lv%s", f.tag);
    delete_table(tag);
    if (has_firewalld()) {
        firewalld(&f, "--remove-interface", &none);
    }
    if (has_chains(tag)) {
        delete_chains(tag);
    }
    for (size_t i = 0; i < LEV_ARRAY_LEN(forward_chains); i++) {
        snprintf(f.chain, sizeof(f.chain), "%s", forward_chains[i]);
        forward_rules(&f, "-D", &none);
    }
}

/* ---- published ports ---- */

static void
put_rule(struct lev_buf *rules, const struct lev_firewall *f, const char *verb,
         const struct lev_published *p)
{
    char ip[INET_ADDRSTRLEN], to[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &p->ip, ip, sizeof(ip));
    inet_ntop(AF_INET, &p->to, to, sizeof(to));
    lev_buf_printf(rules,
                   "%s levrt-%s -p %s %s%s --dport %u -j DNAT "
                   "--to-destination %s:%u\n",
                   verb, f->tag, p->udp ? "udp" : "tcp",
                   p->ip.s_addr == INADDR_ANY ? "" : "-d ",
                   p->ip.s_addr == INADDR_ANY ? "" : ip, p->host_port, to,
                   p->port);
}

/* `n` that one command takes. */
static int
change_some(struct lev_firewall *f, bool add,
            const struct lev_published *ports, size_t n, struct lev_error *err)
{
    _cleanup_buf_ struct lev_buf rules = {0};
    char table[32];

    if (!f->iptables) {
        snprintf(table, sizeof(table), "levrt-%s", f->tag);
        if (f->nl < 0) {
            f->nl = lev_nftmap_open(err);
        }
        return f->nl < 0 ? -1
               : add     ? lev_nftmap_add(f->nl, table, ports, n, err)
                         : lev_nftmap_delete(f->nl, table, ports, n, err);
    }
    lev_buf_puts(&rules, "*nat\n");
    for (size_t i = 0; i < n; i++) {
        put_rule(&rules, f, add ? "-A" : "-D", &ports[i]);
    }
    lev_buf_puts(&rules, "COMMIT\n");
    return iptables_restore(&rules, err);
}

static int
change(struct lev_firewall *f, bool add, const struct lev_published *ports,
       size_t n, struct lev_error *err)
{
    const size_t most = INPUT_MAX / 128; /* no line is longer */
    int rc = 0;

    for (size_t i = 0; i < n; i += most) {
        if (change_some(f, add, ports + i, n - i < most ? n - i : most, err) <
            0) {
            rc = -1;
            if (add) {
                break;
            }
        }
    }
    return rc;
}

int
lev_firewall_publish(struct lev_firewall *f, const struct lev_published *ports,
                     size_t n, struct lev_error *err)
{
    if (change(f, true, ports, n, err) == 0) {
        return 0;
    }
    lev_firewall_unpublish(f, ports, n);
    return lev_error_wrap(err, "publish %zu ports", n);
}

void
lev_firewall_unpublish(struct lev_firewall *f,
                       const struct lev_published *ports, size_t n)
{
    struct lev_error none;

    change(f, false, ports, n, &none);
}
