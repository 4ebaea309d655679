# For tests/run: a server that speaks MongoDB's protocol, of the tests' own.
# shellcheck shell=bash disable=SC2154
#
# mongo-java-server, in memory, in the namespace of the engine: start_namespace
# comes first. Its files come from Maven Central once and are kept.

mongo=127.0.0.1:27017
jars=$cache/mongo-java-server-1.47.0
maven=https://repo1.maven.org/maven2

# SHA-256, group, artifact, version
mongo_jars() {
    cat <<'JARS'
9a34c9ad6ac6261906295481838256033ec1efc8c93a3e3828e5d47a006b0bd4 de/bwaldvogel mongo-java-server-core 1.47.0
82864f8a2ede1514f64c2cd3a70e8022c259eb3d78975cfa208c1668ac1f12bb de/bwaldvogel mongo-java-server-memory-backend 1.47.0
4820eeb2d3db269b20b30711e3d7d21979664249aaf10fc67f90dee935810747 io/netty netty-buffer 4.2.2.Final
6a4ea3cedc831a377e20e32da5df4d2a47b954810e941138e3358e313db3a7f9 io/netty netty-codec 4.2.2.Final
76987614ccb2fda7d3292b69ba5b61351f30e91bf5c7d8fa4b51bc32c9f67456 io/netty netty-codec-base 4.2.2.Final
5d022f3acad74cb0f195f60213500a4000d1340e5e941edaf1a0e756686b9bae io/netty netty-common 4.2.2.Final
d4ef582c78125457baa0cfa52992b5fb1bb9172d1a2c03b726e8b26e17d3fe2c io/netty netty-handler 4.2.2.Final
fa7841ffe2e39d52251814fb8560d6936b10ae7c67453ee50426b83fd5170ba0 io/netty netty-resolver 4.2.2.Final
116d766a1af4722fe76a4cdaed969644985d44e08ec1337d2dbab697dd109603 io/netty netty-transport 4.2.2.Final
aa8821a7ea2ca47f62740bd1f37d67deb97824cc77e76dde6ae2c439a923fc9d io/netty netty-transport-native-unix-common 4.2.2.Final
7b751d952061954d5abfed7181c1f645d336091b679891591d63329c622eb832 org/slf4j slf4j-api 2.0.17
3716f83649ec66161a2edefd4f49df34d1dd1c51cdcf941996c6987260f0a829 org/slf4j slf4j-nop 2.0.17
JARS
}

fetch_jars() {
    local sum group name version file
    mkdir -p "$jars"
    while read -r sum group name version; do
        file=$jars/$name-$version.jar
        [ -e "$file" ] && continue
        curl -fsS --retry 3 -o "$file.part" \
            "$maven/$group/$name/$version/$name-$version.jar"
        echo "$sum  $file.part" | sha256sum -c --quiet
        mv "$file.part" "$file"
    done < <(mongo_jars)
}

start_mongo() {
    fetch_jars
    start mongo in_engine_exec java -Xmx512m -cp "$jars/*" \
        "$root/tests/tools/Mongo.java" "${mongo%:*}" "${mongo#*:}"
    wait_for mongo in_engine bash -c "exec 3<>/dev/tcp/${mongo/://}"
}
