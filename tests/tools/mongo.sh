# For tests/run: a server that speaks MongoDB's protocol, of the tests' own.
# shellcheck shell=bash disable=SC2154
#
# mongo-java-server, in memory, in the namespace of the engine: start_namespace
# comes first. Maven fetches it once, and it is kept.

mongo=127.0.0.1:27017
jars=$cache/mongo-java-server-1.47.0

fetch_jars() {
    [ ! -e "$jars" ] || return 0
    mvn --quiet --batch-mode -f "$root/tests/tools/pom.xml" \
        dependency:copy-dependencies -DoutputDirectory="$scratch/jars"
    mv "$scratch/jars" "$jars"
}

start_mongo() {
    fetch_jars
    start mongo in_engine_exec java -Xmx512m -cp "$jars/*" \
        "$root/tests/tools/Mongo.java" "${mongo%:*}" "${mongo#*:}"
    wait_for mongo in_engine bash -c "exec 3<>/dev/tcp/${mongo/://}"
}
