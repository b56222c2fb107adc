{{/* The pods of a model service, and where its checkpoint is. */}}

{{/* The process's MODEL setting: a path, or a name on Hugging Face. Takes a uri. */}}
{{- define "gsi.modelName" -}}
{{- if hasPrefix "shipped://" . -}}
/app/models/{{ trimPrefix "shipped://" . }}
{{- else if hasPrefix "pvc://" . -}}
/cache/{{ trimPrefix "pvc://" . }}
{{- else -}}
{{ trimPrefix "hf://" . }}
{{- end }}
{{- end }}

{{/* The file that marks a complete download. Takes a model (uri, revision). */}}
{{- define "gsi.downloadMark" -}}
/cache/complete/{{ trimPrefix "hf://" .uri | replace "/" "--" }}@{{ default "main" .revision | replace "/" "--" }}
{{- end }}

{{/* Arguments as one line, quoted so that a shell would split it into the same words. Takes a list of words. */}}
{{- define "gsi.shellWords" -}}
{{- $words := list -}}
{{- range . -}}
{{- $words = append $words (ternary . (printf "'%s'" (replace "'" "'\\''" .)) (regexMatch "^[A-Za-z0-9_@%+=:,./()$-]+$" .)) -}}
{{- end -}}
{{ join " " $words }}
{{- end }}

{{/* Engine arguments: dict root role workload. With several nodes, a pod's rank is its ordinal, $(POD_INDEX). */}}
{{- define "gsi.engineArgs" -}}
{{- $values := get .root.Values .role -}}
{{- $args := $values.engineArgs -}}
{{- if gt (int $values.nodes.count) 1 -}}
{{- $first := printf "%s-0.%s-%s-nodes.%s.svc" .workload (include "gsi.fullname" .root) .role .root.Release.Namespace -}}
{{- $args = concat $args (list "--nnodes" (toString $values.nodes.count) "--node-rank" "$(POD_INDEX)" "--master-addr" $first "--master-port" (toString $values.nodes.masterPort)) -}}
{{- end -}}
{{ include "gsi.shellWords" $args }}
{{- end }}

{{/* The name of the StatefulSet of several nodes: dict root role. The name contains a hash of the pod template, so a changed
template makes a new StatefulSet: all nodes of an engine run the same template and are replaced together. */}}
{{- define "gsi.nodesWorkload" -}}
{{- $pod := include "gsi.modelPod" (dict "root" .root "role" .role "workload" "") -}}
{{ include "gsi.fullname" .root }}-{{ .role }}-{{ $pod | sha256sum | trunc 5 }}
{{- end }}

{{/* The pod template: dict root role workload (the name of the Deployment or StatefulSet). */}}
{{- define "gsi.modelPod" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := get $root.Values $role -}}
{{- $prefix := printf "GSI_%s_" (upper $role) -}}
{{- $isHub := hasPrefix "hf://" $values.model.uri -}}
{{- $cache := $root.Values.modelCache -}}
metadata:
  labels:
    {{- include "gsi.podLabels" (dict "root" $root "component" $role "extra" $values.podLabels) | nindent 4 }}
    {{- if gt (int $values.nodes.count) 1 }}
    gsi/engine: {{ .workload | quote }}
    {{- end }}
    {{- if include "gsi.cacheIsOnOneNode" $root }}
    gsi/model-cache: "true"
    {{- end }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "gsi.podBasics" (dict "root" $root "account" "" "uid" $root.Values.security.uid) | nindent 2 }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds | default (add $values.graceSeconds 30) }}
  {{- with $values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with include "gsi.cachePlacement" (dict "root" $root "values" $values) | trim }}{{ . | nindent 2 }}{{ end }}
  {{- if and $isHub $cache.enabled $cache.download.enabled }}
  initContainers:
    - name: wait-for-model
      image: {{ include "gsi.image" (dict "root" $root "image" $values.image) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [sh, -c, 'trap "exit 1" TERM; until [ -e "$MARK" ]; do sleep 2; done']
      env:
        - {name: MARK, value: {{ include "gsi.downloadMark" $values.model | quote }}}
      {{- include "gsi.containerSecurity" (dict "root" .root "own" (dict)) | nindent 6 }}
      resources:
        requests: {cpu: 10m, memory: 16Mi}
        limits: {memory: 64Mi}
      volumeMounts:
        - {name: model-cache, mountPath: /cache, readOnly: true}
  {{- end }}
  containers:
    - name: {{ $role }}
      image: {{ include "gsi.image" (dict "root" $root "image" $values.image) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [gsi, serve, {{ $role }}]
      {{- with $values.args }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      workingDir: /app
      ports:
        - {name: grpc, containerPort: 50051}
        - {name: health, containerPort: 50052}
        - {name: metrics, containerPort: 9464}
      env:
        {{- if gt (int $values.nodes.count) 1 }}
        - name: POD_INDEX
          valueFrom:
            fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}
        - name: VLLM_HOST_IP
          valueFrom:
            fieldRef: {fieldPath: status.podIP}
        {{- end }}
        - {name: {{ $prefix }}LISTEN, value: "0.0.0.0:50051"}
        {{- include "gsi.commonEnv" (dict "root" $root "prefix" $prefix "logLevel" $values.logLevel) | nindent 8 }}
        {{- if and $root.Values.tls.enabled (include "gsi.tlsCallers" $root) }}
        - {name: {{ $prefix }}TLS_CALLERS, value: {{ include "gsi.tlsCallers" $root | quote }}}
        {{- end }}
        - {name: {{ $prefix }}MODEL, value: {{ include "gsi.modelName" $values.model.uri | quote }}}
        {{- if and $isHub $values.model.revision }}
        - {name: {{ $prefix }}REVISION, value: {{ $values.model.revision | quote }}}
        {{- end }}
        - {name: {{ $prefix }}ENGINE, value: {{ $values.engine }}}
        - {name: {{ $prefix }}ENGINE_ARGS, value: {{ include "gsi.engineArgs" . | quote }}}
        - {name: {{ $prefix }}DTYPE, value: {{ $values.dtype }}}
        {{- if eq $values.engine "remote" }}
        - {name: {{ $prefix }}REMOTE_URL, value: {{ $values.remote.url | quote }}}
        - {name: {{ $prefix }}REMOTE_KIND, value: {{ $values.remote.kind }}}
        {{- with $values.remote.apiKeySecret }}
        {{- if .name }}
        - name: {{ $prefix }}REMOTE_API_KEY
          valueFrom:
            secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
        {{- end }}
        {{- end }}
        {{- end }}
        {{- if and (eq $values.engine "transformers") (gt (int $values.gpu.count) 0) }}
        - {name: {{ $prefix }}DEVICE, value: "cuda:0"}
        {{- end }}
        {{- if ne $role "prm" }}
        - {name: {{ $prefix }}LIKELIHOOD, value: {{ $root.Values.sampling.likelihood }}}
        - {name: {{ $prefix }}TEMPERATURE, value: {{ $root.Values.sampling.temperature | quote }}}
        {{- end }}
        - {name: {{ $prefix }}GRACE_SECONDS, value: {{ $values.graceSeconds | quote }}}
        {{- /* Coordinators learn of NOT_SERVING before the service refuses calls, so no step is repeated. */}}
        - {name: {{ $prefix }}DRAIN_PAUSE_SECONDS, value: "2"}
        - {name: {{ $prefix }}MAX_CONCURRENT_RPCS, value: {{ $values.maxConcurrentRpcs | int | quote }}}
        - {name: {{ $prefix }}MAX_WAITING_REQUESTS, value: {{ $values.maxWaitingRequests | int | quote }}}
        - {name: {{ $prefix }}MAX_CONNECTION_AGE_SECONDS, value: {{ $values.maxConnectionAgeSeconds | quote }}}
        {{- /* Libraries write to /scratch, since the root file system is read-only. */}}
        - {name: HOME, value: /scratch}
        - {name: HF_HOME, value: /scratch/huggingface}
        - {name: VLLM_CACHE_ROOT, value: /scratch/vllm}
        - {name: TRITON_CACHE_DIR, value: /scratch/triton}
        - {name: TORCHINDUCTOR_CACHE_DIR, value: /scratch/inductor}
        {{- /* vLLM and Hugging Face's libraries report their use by default. */}}
        - {name: VLLM_NO_USAGE_STATS, value: "1"}
        - {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
        {{- if $cache.enabled }}
        - {name: HF_HUB_CACHE, value: /cache/hub}
        {{- end }}
        {{- if or $cache.enabled (not $isHub) }}
        - {name: HF_HUB_OFFLINE, value: "1"}
        {{- else if and $cache.download.tokenSecret.name (not (include "gsi.hasVariable" (dict "env" $values.env "name" "HF_TOKEN"))) }}
        - name: HF_TOKEN
          valueFrom:
            secretKeyRef: {name: {{ $cache.download.tokenSecret.name }}, key: {{ $cache.download.tokenSecret.key }}}
        {{- end }}
        {{- with $values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "gsi.probes" (dict "probes" $values.probes) | nindent 6 }}
      {{- include "gsi.containerSecurity" (dict "root" $root "own" $values.securityContext) | nindent 6 }}
      resources:
        {{- include "gsi.modelResources" $values | nindent 8 }}
      volumeMounts:
        - {name: scratch, mountPath: /scratch}
        - {name: tmp, mountPath: /tmp}
        {{- if $values.sharedMemory.size }}
        - {name: shared-memory, mountPath: /dev/shm}
        {{- end }}
        {{- if $cache.enabled }}
        - {name: model-cache, mountPath: /cache, readOnly: true}
        {{- end }}
        {{- if $root.Values.tls.enabled }}
        - {name: tls, mountPath: /secrets/tls, readOnly: true}
        {{- end }}
        {{- with $values.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: scratch
      emptyDir: {{ with $values.scratch.size }}{sizeLimit: {{ . }}}{{ else }}{}{{ end }}
    - name: tmp
      emptyDir: {{ with $values.scratch.size }}{sizeLimit: {{ . }}}{{ else }}{}{{ end }}
    {{- with $values.sharedMemory.size }}
    - name: shared-memory
      emptyDir: {medium: Memory, sizeLimit: {{ . }}}
    {{- end }}
    {{- if $cache.enabled }}
    - name: model-cache
      persistentVolumeClaim: {claimName: {{ include "gsi.cacheClaim" $root }}}
    {{- end }}
    {{- if $root.Values.tls.enabled }}
    - name: tls
      secret: {secretName: {{ include "gsi.tlsSecret" (dict "root" $root "component" $role) }}, defaultMode: 0440}
    {{- end }}
    {{- with $values.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* Whether a container's variables have one of a name: dict env name. */}}
{{- define "gsi.hasVariable" -}}
{{- range .env }}{{ if eq .name $.name }}yes{{ end }}{{ end }}
{{- end }}

{{/* Resources with the GPUs, which Kubernetes takes as limits. Takes the values of a role. */}}
{{- define "gsi.modelResources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpu.count) 0 -}}
{{- $limits := set (get $resources "limits" | default dict) .gpu.resourceName (int .gpu.count) -}}
{{- $resources = set $resources "limits" $limits -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* How a model's Deployment replaces its pods: dict root name model values. With GPUs no new pod can start before an old one has
stopped: one after another, or all at once if there is one pod, or if the new pods have another model: coordinators use one model
at a time. */}}
{{- define "gsi.modelStrategy" -}}
{{- $values := .values -}}
{{- $replicas := ternary $values.autoscaling.maxReplicas $values.replicas $values.autoscaling.enabled | int -}}
{{- if or $values.strategy.type (eq (int $values.gpu.count) 0) -}}
{{ include "gsi.strategy" (dict "strategy" $values.strategy "type" (default "RollingUpdate" $values.strategy.type)) }}
{{- else -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
{{- $old := dig "metadata" "annotations" "gsi/model" .model (default dict $live) -}}
{{- if and (gt $replicas 1) (eq $old .model) -}}
{{ include "gsi.strategy" (dict "strategy" (dict "maxSurge" 0 "maxUnavailable" 1) "type" "RollingUpdate") }}
{{- else -}}
type: Recreate
{{- end }}
{{- end }}
{{- end }}

{{/* The claim of checkpoints. A claim's access modes and class cannot be changed, so its name contains a hash of them. */}}
{{- define "gsi.cacheClaim" -}}
{{- $cache := .Values.modelCache -}}
{{- $hash := printf "%s %s" (join "," $cache.accessModes) $cache.storageClassName | sha256sum | trunc 5 -}}
{{ default (printf "%s-models-%s" (include "gsi.fullname" .) $hash) $cache.existingClaim }}
{{- end }}

{{/* Whether one node alone can mount the chart's claim of checkpoints. */}}
{{- define "gsi.cacheIsOnOneNode" -}}
{{- $cache := .Values.modelCache -}}
{{- if and $cache.enabled (not $cache.existingClaim) (not (has "ReadWriteMany" $cache.accessModes)) }}yes{{ end }}
{{- end }}

{{/* Where a pod with the volume of checkpoints may run: dict root values. On one node with the other such pods, if no other node
can mount it. */}}
{{- define "gsi.cachePlacement" -}}
{{- $values := .values -}}
{{- if and (include "gsi.cacheIsOnOneNode" .root) (not (dig "affinity" "podAffinity" "" $values)) -}}
{{- $labels := dict "app.kubernetes.io/name" (include "gsi.name" .root) "app.kubernetes.io/instance" .root.Release.Name "gsi/model-cache" "true" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" $labels) -}}
{{- $affinity := dict "podAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) -}}
{{- $values = merge (dict "affinity" (merge $affinity (deepCopy (get $values "affinity" | default dict)))) $values -}}
{{- end -}}
{{ include "gsi.placement" $values }}
{{- end }}

{{/* The pod template of a download: dict root model (uri, revision). The draft's image has the command hf. */}}
{{- define "gsi.downloadPod" -}}
{{- $download := .root.Values.modelCache.download -}}
{{- $image := .root.Values.draft.image -}}
metadata:
  labels:
    {{- include "gsi.podLabels" (dict "root" .root "component" "download" "extra" dict) | nindent 4 }}
    {{- if include "gsi.cacheIsOnOneNode" .root }}
    gsi/model-cache: "true"
    {{- end }}
spec:
  {{- include "gsi.podBasics" (dict "root" .root "account" "" "uid" .root.Values.security.uid) | nindent 2 }}
  restartPolicy: Never
  {{- with include "gsi.cachePlacement" (dict "root" .root "values" $download) | trim }}{{ . | nindent 2 }}{{ end }}
  containers:
    - name: download
      image: {{ include "gsi.image" (dict "root" .root "image" $image) }}
      imagePullPolicy: {{ $image.pullPolicy }}
      command:
        - sh
        - -ec
        - |
          [ -e "$MARK" ] || hf download "$MODEL" --revision "$REVISION"
          mkdir -p /cache/complete
          touch "$MARK"
      env:
        - {name: MODEL, value: {{ trimPrefix "hf://" .model.uri | quote }}}
        - {name: REVISION, value: {{ default "main" .model.revision | quote }}}
        - {name: MARK, value: {{ include "gsi.downloadMark" .model | quote }}}
        - {name: HOME, value: /tmp}
        - {name: HF_HOME, value: /tmp/huggingface}
        - {name: HF_HUB_CACHE, value: /cache/hub}
        - {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
        {{- with $download.tokenSecret }}
        {{- if .name }}
        - name: HF_TOKEN
          valueFrom:
            secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
        {{- end }}
        {{- end }}
        {{- with $download.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "gsi.containerSecurity" (dict "root" .root "own" (dict)) | nindent 6 }}
      resources:
        {{- toYaml $download.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: model-cache, mountPath: /cache}
        {{- with $download.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: model-cache
      persistentVolumeClaim: {claimName: {{ include "gsi.cacheClaim" .root }}}
    {{- with $download.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
