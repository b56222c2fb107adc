{{/* How a pod connects to Redis. */}}

{{/* The values of the Redis in use, as YAML. */}}
{{- define "gsi.redis" -}}
{{- if .Values.redis.builtIn.enabled -}}
url: redis://{{ include "gsi.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379/0
urlSecret: {name: ""}
passwordSecret: {{ toJson .Values.redis.builtIn.passwordSecret }}
tls: {existingSecret: ""}
{{- else -}}
{{ toYaml .Values.redis.external }}
{{- end }}
{{- end }}

{{/* The same, with the address and password of a component's own Redis user: dict root own (url, urlSecret, passwordSecret). */}}
{{- define "gsi.redisOf" -}}
{{- $redis := include "gsi.redis" .root | fromYaml -}}
{{- with .own }}
{{- if or .url .urlSecret.name }}{{ $redis = set (set $redis "url" .url) "urlSecret" .urlSecret }}{{ end }}
{{- if .passwordSecret.name }}{{ $redis = set $redis "passwordSecret" .passwordSecret }}{{ end }}
{{- end -}}
{{ toYaml $redis }}
{{- end }}

{{/* Environment: dict root prefix (GSI_COORDINATOR_REDIS_ or GSI_REDIS_) own. */}}
{{- define "gsi.redisEnv" -}}
{{- $redis := include "gsi.redisOf" . | fromYaml -}}
- name: {{ .prefix }}URL
  {{- if $redis.urlSecret.name }}
  valueFrom:
    secretKeyRef: {name: {{ $redis.urlSecret.name }}, key: {{ $redis.urlSecret.key }}}
  {{- else }}
  value: {{ $redis.url | quote }}
  {{- end }}
{{- if $redis.passwordSecret.name }}
- {name: {{ .prefix }}PASSWORD_FILE, value: /secrets/redis/password}
{{- end }}
{{- if $redis.tls.existingSecret }}
- {name: {{ .prefix }}TLS_CA, value: /secrets/redis-tls/{{ $redis.tls.caKey }}}
{{- if $redis.tls.certKey }}
- {name: {{ .prefix }}TLS_CERT, value: /secrets/redis-tls/{{ $redis.tls.certKey }}}
- {name: {{ .prefix }}TLS_KEY, value: /secrets/redis-tls/{{ $redis.tls.keyKey }}}
{{- end }}
{{- end }}
{{- end }}

{{/* dict root own. */}}
{{- define "gsi.redisVolumes" -}}
{{- $redis := include "gsi.redisOf" . | fromYaml -}}
{{- if $redis.passwordSecret.name }}
- name: redis-password
  secret:
    secretName: {{ $redis.passwordSecret.name }}
    items: [{key: {{ $redis.passwordSecret.key }}, path: password}]
    defaultMode: 0440
{{- end }}
{{- if $redis.tls.existingSecret }}
- name: redis-tls
  secret: {secretName: {{ $redis.tls.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* dict root own. */}}
{{- define "gsi.redisMounts" -}}
{{- $redis := include "gsi.redisOf" . | fromYaml -}}
{{- if $redis.passwordSecret.name }}
- {name: redis-password, mountPath: /secrets/redis, readOnly: true}
{{- end }}
{{- if $redis.tls.existingSecret }}
- {name: redis-tls, mountPath: /secrets/redis-tls, readOnly: true}
{{- end }}
{{- end }}

{{/* A crash of the machine loses at most a second of acknowledged writes. Full memory evicts nothing. */}}
{{- define "gsi.redisConf" -}}
bind * -::*
protected-mode no
port 6379
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory {{ .Values.redis.builtIn.maxMemory }}
maxmemory-policy noeviction
{{- end }}

{{/* host:port of an external Redis that is one server; empty for Sentinels, Clusters, and a URL from a Secret. */}}
{{- define "gsi.externalRedisAddress" -}}
{{- if regexMatch "^rediss?://" .Values.redis.external.url -}}
{{- $host := (urlParse .Values.redis.external.url).host -}}
{{ ternary $host (printf "%s:6379" $host) (regexMatch ":[0-9]+$" $host) }}
{{- end }}
{{- end }}
