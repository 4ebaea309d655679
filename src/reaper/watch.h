/* watch.h - the helper of a session whose containers are a daemon's.
 *
 * It waits for the end of the workflow's process and then starts lev-sweep,
 * which has what talks to engines, once for each of them: what waits, for as
 * long as the session lives, is small.
 *
 * Messages, none of them answered:
 *   endpoint {url, docker_config, tls_verify, cert_path}   an engine in use
 *   dir      {path}      goes with the session
 *   end      {clean}     the session has ended by itself; what it could not
 *                        remove (clean: false) is tried again, for an hour
 *
 * A moment after the first engine is known, what dead sessions have left there
 * is swept: not at once, since the first run starts then.
 */
#ifndef LEV_WATCH_H
#define LEV_WATCH_H

/* The whole of the process; its exit code. */
int watch_main(const char *session, const char *sweeper);

#endif
