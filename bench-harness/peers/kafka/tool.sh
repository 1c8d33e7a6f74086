# One of the broker's own programs, by its class.
jars=$(dirname '{kafka}')/jars
exec '{java}' -Xmx256m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$jars/*" "$@"
